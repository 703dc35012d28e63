"""Somebody's file is read, and somebody's model run, only in a child process that the kernel confines.

A fork server imports what such a child needs once, and forks: a child is ready in milliseconds. It gets one job or one
model, a clean environment, a socket, and limits on memory and time. What it says is data, checked like a client's.
"""

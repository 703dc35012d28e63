"""Sandbox for uploaded files and models: they are read and run only in child processes that the kernel confines.

A fork server imports what a child needs once, and forks: a child is ready in milliseconds. It gets one file or one
model, a clean environment, a socket, and limits on memory and time. Its answers are untrusted data, and are validated
like a client's.
"""

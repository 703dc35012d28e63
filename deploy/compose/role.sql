-- Once, where the database is new: the role of the service and the workers owns one database, and nothing else.
\getenv password GAUNTLET_PASSWORD
CREATE ROLE gauntlet LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE gauntlet OWNER gauntlet;
REVOKE CONNECT ON DATABASE gauntlet, postgres, template1 FROM PUBLIC;

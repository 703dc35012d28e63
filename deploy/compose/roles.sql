-- Run once, when the database is created. `gauntlet` owns one database and creates its tables (the service `migrate`);
-- `gauntlet_service`, the role of the service and the workers, may use the granted tables, but not alter them.
\getenv owner_password OWNER_PASSWORD
\getenv service_password DATABASE_PASSWORD
CREATE ROLE gauntlet LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'owner_password';
CREATE ROLE gauntlet_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'service_password';
CREATE DATABASE gauntlet OWNER gauntlet;
REVOKE ALL ON DATABASE gauntlet, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE gauntlet TO gauntlet_service;

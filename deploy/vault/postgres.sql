-- An example: what the database needs once, run by a superuser.
--   psql -v password="$(cat FILE)" -f postgres.sql orders
-- Afterwards postgres-role.sh tells the server of it.
--
-- app_ro holds the rights; every minted user is a member of it and owns nothing. vaultadmin makes and ends
-- users: it is no superuser, and cuts open connections by pg_signal_backend.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_ro') THEN CREATE ROLE app_ro NOLOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vaultadmin') THEN CREATE ROLE vaultadmin; END IF;
END $$;

ALTER ROLE vaultadmin LOGIN CREATEROLE PASSWORD :'password';
GRANT app_ro TO vaultadmin WITH ADMIN OPTION;
GRANT pg_signal_backend TO vaultadmin;

GRANT USAGE ON SCHEMA public TO app_ro;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app_ro;

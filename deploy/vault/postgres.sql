-- An example: what the database needs once, run by a superuser.
--   psql -v password="$(cat FILE)" -f postgres.sql orders
-- Afterwards postgres-role.sh tells the server of it.
--
-- app_ro and app_rw hold the rights; every minted user is a member of one of them and owns nothing. vaultadmin
-- makes and ends users: it is no superuser, and cuts open connections by pg_signal_backend.

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_ro') THEN CREATE ROLE app_ro NOLOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_rw') THEN CREATE ROLE app_rw NOLOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vaultadmin') THEN CREATE ROLE vaultadmin; END IF;
END $$;

ALTER ROLE vaultadmin LOGIN CREATEROLE PASSWORD :'password';
GRANT app_ro, app_rw TO vaultadmin WITH ADMIN OPTION;
GRANT pg_signal_backend TO vaultadmin;

GRANT USAGE ON SCHEMA public TO app_ro;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_ro;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app_ro;

-- What the scope that writes may do: narrow it to the tables and columns that its tools change.
GRANT USAGE ON SCHEMA public TO app_rw;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO app_rw;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app_rw;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE ON TABLES TO app_rw;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO app_rw;

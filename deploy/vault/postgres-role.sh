#!/bin/sh
# An example: a database role whose users can be revoked for good. Can be run again.
#
#   postgres-role.sh --url 'postgresql://{{username}}:{{password}}@db.internal:5432/orders?sslmode=verify-full' \
#                    --password-file FILE
#
# Needs `bao` or `vault` in PATH, its address, and an admin's token in the environment (see setup.sh).
set -eu

fail() {
    printf 'postgres-role.sh: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

mount=database connection=orders name=orders-ro group=app_ro username=vaultadmin ttl=15m max_ttl=10h url='' password_file=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value" 'see the head of this file'
    case $1 in
    --mount) mount=$2 ;;
    --connection) connection=$2 ;;
    --name) name=$2 ;;
    --group) group=$2 ;;
    --username) username=$2 ;;
    --ttl) ttl=$2 ;;
    --max-ttl) max_ttl=$2 ;;
    --url) url=$2 ;;
    --password-file) password_file=$2 ;;
    *) fail "unknown option $1" 'known: --mount --connection --name --group --username --ttl --max-ttl --url --password-file' ;;
    esac
    shift 2
done
[ -n "$url" ] || fail 'the database is not named' 'give --url, with {{username}} and {{password}} in it'
[ -r "$password_file" ] || fail 'the password of the admin role cannot be read' 'give --password-file'
cli=$(command -v bao || command -v vault) || fail 'neither bao nor vault is in PATH' 'install one of them'

create="CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE \"$group\";"

# One block, for three reasons. NOLOGIN first, so that nobody comes back while connections are cut; dropping a
# role alone leaves its open connections working. And all of it only where the role exists: a statement that
# fails for a role that is already gone makes a lease that can never be revoked.
revoke="DO \$\$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{name}}') THEN
    EXECUTE 'ALTER ROLE \"{{name}}\" NOLOGIN';
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
    EXECUTE 'DROP ROLE \"{{name}}\"';
  END IF;
END \$\$;"

"$cli" read "sys/mounts/$mount/tune" >/dev/null 2>&1 || "$cli" secrets enable -path="$mount" database
tr -d '\n' <"$password_file" | "$cli" write "$mount/config/$connection" \
    plugin_name=postgresql-database-plugin allowed_roles='*' connection_url="$url" \
    username="$username" max_open_connections=4 password=- >/dev/null
"$cli" write "$mount/roles/$name" db_name="$connection" creation_statements="$create" \
    revocation_statements="$revoke" default_ttl="$ttl" max_ttl="$max_ttl" >/dev/null
echo "$mount/creds/$name mints users that are members of $group, for $ttl, at most $max_ttl"

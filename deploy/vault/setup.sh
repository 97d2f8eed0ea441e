#!/bin/sh
# Sets up an OpenBao or Vault server for mcp-broker, and checks it. Can be run again: it changes what
# differs and leaves the rest alone.
set -eu

usage() {
    cat <<'TEXT'
Usage: setup.sh [OPTIONS]           set up, then check
       setup.sh --check [OPTIONS]   check only

Needs `bao` or `vault` in PATH, BAO_ADDR or VAULT_ADDR, and an admin's token in BAO_TOKEN or VAULT_TOKEN.

  --launch-policies A,B   policies that launches may be given; without it the list stays as it is
  --period TIME           life of a session's token without renewal: `dead_man` of the provider (5m)
  --max-age TIME          longest life of a session's or launch's token: at least `max_age` (10h)
  --approle-mount PATH    where the AppRole method is, or is to be (approle)
  --role NAME             the broker's AppRole role (mcp-broker)
  --out DIR               write role_id and secret_id there, mode 0600; a secret_id that is there stays
  --namespace NS          work in that namespace
  --check                 change nothing
TEXT
}

fail() {
    printf 'setup.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
period=5m max_age=10h mount=approle role=mcp-broker out='' policies='' check_only=''

while [ $# -gt 0 ]; do
    case $1 in
    --check) check_only=yes; shift; continue ;;
    --help | -h) usage; exit 0 ;;
    --launch-policies | --period | --max-age | --approle-mount | --role | --out | --namespace)
        [ $# -ge 2 ] || fail "$1 needs a value" "see setup.sh --help" ;;
    *) fail "unknown option $1" "see setup.sh --help" ;;
    esac
    case $1 in
    --launch-policies) policies=$2 ;;
    --period) period=$2 ;;
    --max-age) max_age=$2 ;;
    --approle-mount) mount=${2%/} ;;
    --role) role=$2 ;;
    --out) out=$2 ;;
    --namespace) BAO_NAMESPACE=$2 VAULT_NAMESPACE=$2; export BAO_NAMESPACE VAULT_NAMESPACE ;;
    esac
    shift 2
done

# 90, 90s, 5m, 1h → seconds
seconds() {
    number=${1%[smh]}
    case $number in '' | *[!0-9]*) fail "\"$1\" is not a length of time" 'write 90s, 5m or 1h' ;; esac
    case $1 in *h) echo $((number * 3600)) ;; *m) echo $((number * 60)) ;; *) echo "$number" ;; esac
}
want_period=$(seconds "$period")
want_max=$(seconds "$max_age")

cli=$(command -v bao || command -v vault) || fail 'neither bao nor vault is in PATH' 'install one of them'
address=${BAO_ADDR:-${VAULT_ADDR:-}}
[ -n "$address" ] || fail 'the server is not named' 'set BAO_ADDR or VAULT_ADDR'
BAO_ADDR=$address VAULT_ADDR=$address
export BAO_ADDR VAULT_ADDR
if [ -n "${BAO_TOKEN:-${VAULT_TOKEN:-}}" ]; then
    BAO_TOKEN=${BAO_TOKEN:-$VAULT_TOKEN}
    VAULT_TOKEN=$BAO_TOKEN
    export BAO_TOKEN VAULT_TOKEN
fi

# Runs the command line tool; its words are shown only where it fails.
errors=$(mktemp) || fail 'no temporary file can be made'
made=''
clean_up() {
    for accessor in $made; do "$cli" token revoke -accessor "$accessor" >/dev/null 2>&1 || :; done
    rm -f "$errors"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
run() { "$cli" "$@" 2>"$errors"; }
must() {
    what=$1; shift
    run "$@" || { sed 's/^/    /' "$errors" >&2; fail "$what failed" 'the token needs an admin'"'"'s rights in this namespace'; }
}
# A command as another token. The token goes through the environment, never through an argument.
as() { token=$1; shift; BAO_TOKEN=$token VAULT_TOKEN=$token "$cli" "$@" 2>"$errors"; }
field() { sed -n 's/^ *"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' | head -n 1; }

run token lookup >/dev/null || {
    sed 's/^/    /' "$errors" >&2
    fail "no token is accepted at $address" 'set BAO_TOKEN or VAULT_TOKEN to an admin'"'"'s, and check the address'
}

# The policies of the broker's own identity, parted by commas.
own_policies() {
    run read -format=json "auth/$mount/role/$role" | tr -d ' \n' |
        sed -n 's/.*"token_policies":\[\([^]]*\)\].*/\1/p' | tr -d '"'
}

set_up() {
    echo "Setting up $address${BAO_NAMESPACE:+ (namespace $BAO_NAMESPACE)}"
    for name in mcp-broker mcp-session; do
        must "writing the policy $name" policy write "$name" "$here/policies/$name.hcl" >/dev/null
        echo "  policy $name"
    done

    must 'writing the token role mcp-session' write auth/token/roles/mcp-session \
        "@$here/token-roles/mcp-session.json" "token_period=${want_period}s" "token_explicit_max_ttl=${want_max}s" >/dev/null
    echo "  token role mcp-session (period $period, at most $max_age)"

    if [ -n "$policies" ]; then
        must 'writing the token role mcp-launch' write auth/token/roles/mcp-launch \
            "@$here/token-roles/mcp-launch.json" "allowed_policies=$policies" "token_explicit_max_ttl=${want_max}s" >/dev/null
        echo "  token role mcp-launch (policies $policies)"
    elif run read auth/token/roles/mcp-launch >/dev/null; then
        must 'writing the token role mcp-launch' write auth/token/roles/mcp-launch \
            "@$here/token-roles/mcp-launch.json" "token_explicit_max_ttl=${want_max}s" >/dev/null
        echo '  token role mcp-launch (policies as they were)'
    else
        fail 'no policies for launches are named' 'name them: --launch-policies orders-ro,…'
    fi

    if ! run read "auth/$mount/role/$role/role-id" >/dev/null && ! run list "auth/$mount/role" >/dev/null; then
        run auth enable -path="$mount" approle >/dev/null || grep -q 'path is already in use' "$errors" || {
            sed 's/^/    /' "$errors" >&2
            fail "enabling AppRole at $mount failed"
        }
    fi
    # Further policies that the broker was given, such as pki-revoke, stay.
    own=$(own_policies)
    case ",$own," in *,mcp-broker,*) ;; *) own=mcp-broker${own:+,$own} ;; esac
    must "writing the AppRole role $role" write "auth/$mount/role/$role" "token_policies=$own" \
        token_no_default_policy=true token_type=service token_period=1h bind_secret_id=true \
        secret_id_num_uses=0 secret_id_ttl=0 >/dev/null
    echo "  AppRole role $role at auth/$mount"
    [ -z "$out" ] || write_identity
}

write_identity() {
    umask 077
    mkdir -p "$out"
    must 'reading the role id' read -field=role_id "auth/$mount/role/$role/role-id" >"$out/role_id"
    chmod 600 "$out/role_id"
    if [ ! -s "$out/secret_id" ]; then
        must 'making a secret id' write -f -field=secret_id "auth/$mount/role/$role/secret-id" >"$out/secret_id"
        chmod 600 "$out/secret_id"
        echo "  role_id and a new secret_id in $out (0600)"
    else
        echo "  role_id in $out; the secret_id there stays"
    fi
}

bad=0
verdict() {
    if [ "$1" = ok ]; then echo "  ok    $2"; else
        bad=$((bad + 1))
        printf '  WRONG %s\n  hint: %s\n' "$2" "$3"
    fi
}

# role_is KEY WANT: one setting of the token role in $name, which was read into $text
role_is() {
    got=$(printf '%s\n' "$text" | sed -n 's/.*[{,]"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p')
    if [ "$got" = "$2" ]; then verdict ok "$name: $1 is $2"; else
        verdict no "$name: $1 is ${got:-not there}, not $2" 'run setup.sh without --check'
    fi
}

# rights ACCESSOR PATH…: what the token may do, as {"PATH":["CAPABILITY"…]…} without spaces
rights() {
    accessor=$1; shift
    run write -format=json sys/capabilities-accessor accessor="$accessor" paths="$(IFS=,; echo "$*")" | tr -d ' \n'
}
# on RIGHTS PATH: the capabilities on one of the paths
on() { printf '%s\n' "$1" | sed -n 's|.*"'"$2"'":\[\([^]]*\)\].*|\1|p'; }

# new_token TOKEN CREATE-ARGUMENTS…: sets new_token and new_accessor
new_token() {
    by=$1; shift
    answer=$(as "$by" token create -format=json "$@") || return 1
    new_token=$(printf '%s\n' "$answer" | field client_token)
    new_accessor=$(printf '%s\n' "$answer" | field accessor)
    made="$made $new_accessor"
}

# sees_nothing WHO ACCESSOR: the token has no right on any path of the launch policies
sees_nothing() {
    [ -n "$paths" ] || return 0
    # A path is one word.
    # shellcheck disable=SC2086
    found=$(rights "$2" $paths) open=''
    for path in $paths; do
        case $found in *"\"$path\":[\"deny\"]"*) ;; *) open="$open $path" ;; esac
    done
    if [ -n "$open" ]; then
        verdict no "$1 may use$open" "take it out of the policies of $1"
    else
        verdict ok "$1 reads no secret ($count paths of launch policies tried)"
    fi
}

# The tokens that the broker uses are made the way that the broker makes them, and tried.
check() {
    echo "Checking $address${BAO_NAMESPACE:+ (namespace $BAO_NAMESPACE)}"
    name=mcp-session
    text=$(run read -format=json auth/token/roles/$name | tr -d ' \n') || text=''
    role_is token_period "$want_period"
    role_is orphan true
    role_is token_no_default_policy true
    name=mcp-launch
    text=$(run read -format=json auth/token/roles/$name | tr -d ' \n') || text=''
    role_is orphan false
    role_is token_no_default_policy true

    granted=$(printf '%s\n' "$text" | sed -n 's/.*"allowed_policies":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr ',' ' ')
    paths='' count=0 first=''
    for name in $granted; do
        if text=$(run policy read "$name"); then
            first=${first:-$name}
            for path in $(printf '%s\n' "$text" | sed -n 's/^ *path *"\([^"]*\)".*/\1/p'); do
                paths="$paths $path" count=$((count + 1))
            done
        else
            verdict no "the launch policy $name does not exist" "bao policy write $name FILE (policies/orders-ro.hcl is an example)"
        fi
    done
    [ -n "$granted" ] || verdict no 'mcp-launch allows no policies' 'run setup.sh --launch-policies …'

    admin=${BAO_TOKEN:-$(run print token)}
    # Names of policies have no white space.
    # shellcheck disable=SC2046
    if [ -n "$out" ] && [ -s "$out/secret_id" ]; then
        answer=$(run write -format=json "auth/$mount/login" role_id="$(cat "$out/role_id")" secret_id=- <"$out/secret_id") || answer=''
        broker=$(printf '%s\n' "$answer" | field client_token)
        broker_accessor=$(printf '%s\n' "$answer" | field accessor)
        made="$made $broker_accessor"
        if [ -n "$broker" ]; then verdict ok 'the broker signs in by AppRole'; else
            verdict no 'the broker cannot sign in by AppRole' "remove $out/secret_id and run setup.sh again"
        fi
    elif new_token "$admin" -orphan -policy=mcp-broker $(own_policies | tr ',' '\n' | sed 's/^/-policy=/') \
        -no-default-policy -ttl=2m; then
        broker=$new_token broker_accessor=$new_accessor
    else
        broker=''
    fi
    [ -n "$broker" ] || { verdict no 'no token with the policy mcp-broker can be had' 'run setup.sh without --check'; return; }
    sees_nothing 'the broker' "$broker_accessor"

    if ! new_token "$broker" -role=mcp-session; then
        verdict no 'the broker cannot make a session token' 'run setup.sh without --check'
        return
    fi
    parent=$new_token parent_accessor=$new_accessor
    verdict ok 'the broker makes session tokens'
    sees_nothing 'a session' "$parent_accessor"
    if [ -n "$first" ]; then
        if new_token "$parent" -role=mcp-launch -policy="$first" -no-default-policy -ttl=1m; then
            verdict ok "a session makes launch tokens (tried with $first)"
        else
            verdict no 'a session cannot make launch tokens' 'run setup.sh without --check'
        fi
    fi
    if new_token "$parent" -ttl=1m; then
        verdict no 'a session makes tokens without a role' 'take auth/token/create out of the policy mcp-session'
    else
        verdict ok 'a session makes no other tokens'
    fi
    check_ends
}

# The broker ends what it made, and can see that it did.
check_ends() {
    if as "$broker" token revoke -accessor "$parent_accessor" >/dev/null; then
        if as "$broker" token lookup -accessor "$parent_accessor" >/dev/null; then
            verdict no 'a session token is still there after its revocation' 'look into the log of the server'
        elif grep -q 'invalid accessor' "$errors"; then
            verdict ok 'the broker ends session tokens and sees that they are gone'
        else
            verdict no 'the broker cannot look up accessors' 'run setup.sh without --check'
        fi
    else
        verdict no 'the broker cannot revoke accessors' 'run setup.sh without --check'
    fi
    found=$(rights "$broker_accessor" sys/leases/lookup sys/leases/renew sys/leases/revoke)
    for call in lookup renew revoke; do
        case $(on "$found" "sys/leases/$call") in
        *update*) verdict ok "the broker may use sys/leases/$call" ;;
        *) verdict no "the broker may not use sys/leases/$call" 'run setup.sh without --check' ;;
        esac
    done
    check_lists
}

# Where launches get certificates, the broker puts them on the revocation list of their issuer: policies/pki-revoke.hcl.
check_lists() {
    # A path is one word.
    # shellcheck disable=SC2086
    mounts=$(printf '%s\n' $paths | sed -n -e 's,/issue/.*$,,p' -e 's,/sign/.*$,,p' | sort -u)
    for place in $mounts; do
        # Other engines sign, too: SSH, for whose certificates there is no list.
        kind=$(run read -field=type "sys/mounts/$place") || continue
        [ "$kind" = pki ] || continue
        case $(on "$(rights "$broker_accessor" "$place/revoke")" "$place/revoke") in
        *update*) verdict ok "the broker puts certificates of $place on the revocation list" ;;
        *)
            what="the broker may not use $place/revoke: certificates are not put on the revocation list"
            cure="give it policies/pki-revoke.hcl with path \"$place/revoke\", as README.md here says"
            # At a first set-up that is the next step.
            if [ -n "$check_only" ]; then verdict no "$what" "$cure"; else printf '  NEXT  %s\n  hint: %s\n' "$what" "$cure"; fi ;;
        esac
    done
}

[ -n "$check_only" ] || set_up
check
if [ "$bad" -gt 0 ]; then
    [ "$bad" -eq 1 ] && fail '1 thing is wrong'
    fail "$bad things are wrong"
fi
echo 'All is well. In broker.toml:'
cat <<TEXT
  [provider.bao]
  kind = "vault"
  address = "$address"${BAO_NAMESPACE:+
  namespace = "$BAO_NAMESPACE"}
  auth = { method = "approle", mount = "$mount", role_id = "$(run read -field=role_id "auth/$mount/role/$role/role-id" || echo ROLE-ID)", secret_id_file = "${out:-/etc/mcp-broker/bao}/secret_id" }
  dead_man = "$period"
TEXT
if [ -n "$out" ] && [ "$(id -u)" = 0 ]; then
    printf 'Then give the files to the account that the broker runs as:\n  chown -R _mcpbroker: %s\n' "'$out'"
fi

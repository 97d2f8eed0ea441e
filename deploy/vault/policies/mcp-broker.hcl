# The broker's own identity. It makes session tokens and looks up, renews and revokes; it reads no secret.
# revoke-accessor and leases/revoke reach every token and lease of the namespace: see README.md.

path "auth/token/create/mcp-session" {
  capabilities = ["update"]
}

# Its own token.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Ends tokens, and makes sure of it.
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

# Shortens, renews and ends leases, and makes sure of it.
path "sys/leases/lookup" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
}

# Checks at start that the roles are what the configuration says.
path "auth/token/roles/mcp-session" {
  capabilities = ["read"]
}
path "auth/token/roles/mcp-launch" {
  capabilities = ["read"]
}

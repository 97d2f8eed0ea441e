# A session's token. It makes launch tokens and keeps itself alive; it reads no secret.

path "auth/token/create/mcp-launch" {
  capabilities = ["update"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

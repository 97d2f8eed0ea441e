# For the broker's own identity, beside mcp-broker, where another provider takes a secret of its own from here, such
# as `key = { provider = "bao", path = "secret/data/broker/github-app" }`. Exactly that path: the broker reads it
# itself, and so does whoever has the broker's token.

path "secret/data/broker/github-app" {
  capabilities = ["read"]
}

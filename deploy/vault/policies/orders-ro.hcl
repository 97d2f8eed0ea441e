# An example of a launch's policy: exactly the one path that a credential of a server names. Write one for
# each, and hand its name to `setup.sh --launch-policies`.

path "database/creds/orders-ro" {
  capabilities = ["read"]
}

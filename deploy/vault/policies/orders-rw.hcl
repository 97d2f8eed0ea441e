# The policy of the scope that writes. It is another one than that of the scope that reads, so that neither scope's
# launch token reads the other's credential.

path "database/creds/orders-rw" {
  capabilities = ["read"]
}

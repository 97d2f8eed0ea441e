# For the broker's own identity, beside mcp-broker, where launches get certificates: it puts them on the revocation
# list when their launch ends. One line for each mount. It reaches every certificate of the mount whose serial number
# is known; it issues and reads nothing.

path "pki/revoke" {
  capabilities = ["update"]
}

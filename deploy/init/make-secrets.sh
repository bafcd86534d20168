#!/usr/bin/env bash
#
# make-secrets: creates every secret and certificate of the compose cluster at the first start, and gives each service only its
# own at each start. Safe to run again, even after an interruption: existing files are kept.
#
#   /keep          the originals, the certificate authority's key among them; no service has this volume
#   /for/SERVICE   what SERVICE gets, mounted only there; readable only by its user

set -euo pipefail
umask 077

keep=/keep
node=1000 postgres=999 root=0 # users of the images
days=397
renew_within=$((30 * 24 * 3600)) # seconds

main() {
  secret shared_secret
  secret cookie_secret
  secret idp_client_secret
  password postgres_password
  password postgres_superuser_password
  password nats_password
  authority
  certificate broker broker-1 broker-2
  certificate authenticate authenticate
  certificate postgres postgres
  certificate nats nats-1 nats-2 nats-3

  keep_made database_url <<<"postgres://cardea:$(<$keep/postgres_password)@postgres:5432/cardea?sslmode=verify-full&sslrootcert=/run/secrets/ca.crt"
  keep_made nats_users.conf <<<"authorization { user: cardea, password: \"$(<$keep/nats_password)\" }"

  hand broker $node ca.crt shared_secret idp_client_secret database_url nats_password broker.crt broker.key
  hand proxy $node ca.crt shared_secret cookie_secret nats_password
  hand authenticate $node ca.crt shared_secret cookie_secret idp_client_secret nats_password authenticate.crt authenticate.key
  hand demo $node idp_client_secret
  hand postgres $postgres postgres_password postgres_superuser_password postgres.crt postgres.key
  hand nats $root ca.crt nats_users.conf nats.crt nats.key
  echo "secrets and certificates are in place"
}

# keep_made NAME: stores standard input; a file is complete or absent.
keep_made() { cat >"$keep/$1.new" && mv "$keep/$1.new" "$keep/$1"; }

# secret NAME: 32 random bytes in base64.
secret() { [ -s "$keep/$1" ] || openssl rand -base64 32 | keep_made "$1"; }

# password NAME: a password that needs no escaping in a URL or a quoted word.
password() { [ -s "$keep/$1" ] || openssl rand -hex 24 | keep_made "$1"; }

key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt; }

authority() {
  [ ! -s $keep/ca.crt ] || return 0
  key | keep_made ca.key
  openssl req -x509 -new -key $keep/ca.key -sha256 -days 3650 -subj "/CN=Cardea compose cluster" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" | keep_made ca.crt
}

# certificate NAME HOST...: for a server with these names, renewed before it expires; services read theirs at startup.
certificate() {
  local name=$1 host names=''
  shift
  if [ -s "$keep/$name.crt" ] && openssl x509 -in "$keep/$name.crt" -noout -checkend $renew_within >/dev/null; then return 0; fi
  for host in "$@"; do names+="${names:+,}DNS:$host"; done
  key | keep_made "$name.key"
  # The certificate is created last, to mark the pair as complete. NATS servers are each other's clients, too.
  openssl req -new -key "$keep/$name.key" -subj "/CN=$1" \
    | openssl x509 -req -CA $keep/ca.crt -CAkey $keep/ca.key -sha256 -days $days -set_serial "0x$(openssl rand -hex 16)" \
      -extfile <(printf '%s\n' "subjectAltName=$names" "basicConstraints=critical,CA:FALSE" \
        "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth,clientAuth") 2>/dev/null \
    | keep_made "$name.crt"
}

# hand SERVICE USER NAME...: gives this user exactly these files, readable only by it and not writable.
hand() {
  local target=/for/$1 user=$2 name file
  shift 2
  for name in "$@"; do
    install -m 0400 -o "$user" -g "$user" "$keep/$name" "$target/$name.new"
    mv "$target/$name.new" "$target/$name"
  done
  for file in "$target"/*; do
    [[ " $* " == *" ${file##*/} "* ]] || rm -f "$file"
  done
  chown "$user:$user" "$target"
  chmod 0500 "$target"
}

main

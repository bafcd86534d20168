#!/usr/bin/env bash
#
# is-serving: checks whether a proxy behind this load balancer is ready. The image has no other HTTP client.

set -euo pipefail

exec 3<>/dev/tcp/127.0.0.1/8404
printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
read -r -t 3 _ status _ <&3
[ "$status" = 200 ]

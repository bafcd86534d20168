"""Runs scim2-tester against a server; prints each result as a line of JSON.

Usage: foreign-suite.py BASE_URL HOST < TOKEN
"""

import json
import sys

from httpx import Client
from scim2_client.engines.httpx import SyncSCIMClient
from scim2_tester import check_server

base_url, host = sys.argv[1:]
headers = {"Authorization": f"Bearer {sys.stdin.read().strip()}", "Host": host}
scim = SyncSCIMClient(Client(base_url=base_url, headers=headers, timeout=30))
scim.discover()
for result in check_server(scim):
    found = {"status": result.status.name, "title": result.title, "type": result.resource_type, "reason": result.reason}
    print(json.dumps({**found, "data": str(result.data)[:500]}))

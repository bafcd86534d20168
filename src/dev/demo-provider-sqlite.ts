/**
 * Demo provider store: grants, tokens and sign-in sessions of the demo identity provider in SQLite, so that refresh
 * tokens survive a restart. Each write deletes expired rows.
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Adapter, AdapterFactory, AdapterPayload } from "oidc-provider";

export type DemoStore = Readonly<{ adapter: AdapterFactory; close: () => void }>;

const schema = `
CREATE TABLE IF NOT EXISTS item (
  model TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL, grant_id TEXT, uid TEXT, expires_at INTEGER NOT NULL,
  PRIMARY KEY (model, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_grant ON item (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS item_uid ON item (uid) WHERE uid IS NOT NULL;
CREATE INDEX IF NOT EXISTS item_expiry ON item (expires_at);`;
/** Default lifetime in seconds. */
const lifetimeS = 14 * 24 * 3600;

/** @param nowS seconds since 1970 */
export function openDemoStore(dataDir: string | undefined, nowS: () => number): DemoStore {
  const db = new DatabaseSync(dataDir === undefined ? ":memory:" : privateFile(join(dataDir, "demo-provider.sqlite")));
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000;");
  db.exec(schema);
  const sweep = db.prepare("DELETE FROM item WHERE expires_at < ?");
  const put = db.prepare(
    "INSERT OR REPLACE INTO item (model, id, payload, grant_id, uid, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const get = db.prepare("SELECT payload FROM item WHERE model = ? AND id = ? AND expires_at >= ?");
  const getByUid = db.prepare("SELECT payload FROM item WHERE model = ? AND uid = ? AND expires_at >= ?");
  const consume = db.prepare("UPDATE item SET payload = json_set(payload, '$.consumed', ?) WHERE model = ? AND id = ?");
  const remove = db.prepare("DELETE FROM item WHERE model = ? AND id = ?");
  const removeGrant = db.prepare("DELETE FROM item WHERE model = ? AND grant_id = ?");

  const adapter = (model: string): Adapter => ({
    async upsert(id, payload, expiresIn) {
      sweep.run(nowS());
      const expiresAt = nowS() + (expiresIn ?? lifetimeS);
      put.run(model, id, JSON.stringify(payload), payload.grantId ?? null, payload.uid ?? null, expiresAt);
    },
    find: async (id) => payloadOf(get.get(model, id, nowS())),
    findByUid: async (uid) => payloadOf(getByUid.get(model, uid, nowS())),
    findByUserCode: async () => undefined, // only of the device flow, which is off
    async consume(id) {
      consume.run(nowS(), model, id);
    },
    async destroy(id) {
      remove.run(model, id);
    },
    async revokeByGrantId(grantId) {
      removeGrant.run(model, grantId);
    },
  });
  return { adapter, close: () => db.close() };
}

/** SQLite gives its journals the mode of the file they belong to. */
function privateFile(path: string): string {
  mkdirSync(dirname(path), { recursive: true });
  closeSync(openSync(path, "a", 0o600));
  return path;
}

function payloadOf(row: Record<string, unknown> | undefined): AdapterPayload | undefined {
  return typeof row?.["payload"] === "string" ? (JSON.parse(row["payload"]) as AdapterPayload) : undefined;
}

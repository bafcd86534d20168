/** SQLite inserts: statements that name their columns, so that a column added by a newer build gets its default. */
const event =
  "pos, epoch, event_id, stream, version, type, schema_version, effect, recorded_at, actor, cause, hash, bytes";

export const insert = {
  event: `insert into event (${event}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  streamHead:
    "insert into stream_head (stream, version) values (?, ?) on conflict do update set version = excluded.version",
  epoch:
    "insert into log_epoch (epoch, incarnation, start_pos, previous_hash, broker_id, broker_url, opened_at) values (?, ?, ?, ?, ?, ?, ?)",
  base: "insert or replace into log_base (one, epoch, pos, hash) values (1, ?, ?, ?)",
  command: "insert into command (command_id, first_pos, count, at) values (?, ?, ?, ?)",
  personKey: "insert into person_key (user_id, key_id, wrapped) values (?, ?, ?) on conflict do nothing",
  erasedKey:
    "insert into person_key (user_id, key_id, wrapped) values (?, x'', null) on conflict do update set key_id = x'', wrapped = null",
  vault: `insert into vault (session_id, version, sealed) values (?, ?, ?)
    on conflict do update set version = excluded.version, sealed = excluded.sealed where vault.version < excluded.version`,
  configuration: `insert into configuration (hash, recorded_at, body)
    select ?, ?, ? where (select count(*) from configuration) < ? on conflict do nothing`,
  lessee: `insert into lessee (node, boot, region, role, window_ms) values (?, ?, ?, ?, ?) on conflict do update
    set region = excluded.region, role = excluded.role, window_ms = max(window_ms, excluded.window_ms)`,
  admittedNode: `insert or replace into admitted_node (node, role, region, boot, heard_at, applied_pos)
    values (?, ?, ?, ?, ?, ?)`,
  leaseMark: `insert into lease_mark (one, epoch, mark, window_max_ms) values (1, ?, ?, ?) on conflict do update
    set epoch = excluded.epoch, mark = excluded.mark, window_max_ms = max(window_max_ms, excluded.window_max_ms)`,
} as const;

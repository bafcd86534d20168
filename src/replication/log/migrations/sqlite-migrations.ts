import type { Migration } from "./migration.ts";

/**
 * The schema of the file log, as steps that are only ever added. Step n brings version n − 1 to version n, within one
 * transaction; a step that has been released is never edited.
 *
 * Columns of `event` are copies for people with a SQL prompt; what counts are `bytes` and `hash`.
 */
export const sqliteMigrations: readonly Migration[] = [
  {
    worksWith: 1,
    sql: `
  create table log_head (
    one integer primary key check (one = 1),
    cluster text not null,
    epoch integer not null,
    incarnation text,
    broker_id text,
    broker_url text,
    beat integer not null,
    pos integer not null,
    hash blob not null check (length(hash) = 32)
  ) strict;

  create table log_epoch (
    epoch integer primary key,
    incarnation text not null,
    start_pos integer not null unique,
    previous_hash blob not null,
    broker_id text not null,
    broker_url text,
    opened_at integer not null
  ) strict;

  create table event (
    pos integer primary key,
    epoch integer not null,
    event_id text not null,
    stream text not null,
    version integer not null,
    type text not null,
    schema_version integer not null,
    effect text not null,
    recorded_at integer not null,
    actor text not null,
    cause text,
    hash blob not null,
    bytes blob not null
  ) strict;

  create table stream_head (stream text primary key, version integer not null) strict, without rowid;

  create table command (
    command_id text primary key,
    first_pos integer not null,
    count integer not null,
    at integer not null
  ) strict, without rowid;
  create index command_by_age on command (at);

  create table lessee (
    node text not null,
    boot text not null,
    region text not null,
    role text not null,
    window_ms integer not null,
    primary key (node, boot)
  ) strict, without rowid;

  -- A person without a wrapped key is erased, and stays so.
  create table person_key (user_id text primary key, key_id blob not null, wrapped blob) strict, without rowid;

  create table vault (session_id text primary key, version integer not null, sealed blob not null) strict, without rowid;
  `,
  },
  {
    worksWith: 2,
    sql: `
  -- Where the log begins: behind the event that was dropped last, or the snapshot it was refilled from. No row: it is whole.
  create table log_base (
    one integer primary key check (one = 1),
    epoch integer not null,
    pos integer not null,
    hash blob not null check (length(hash) = 32)
  ) strict;
  `,
  },
  {
    worksWith: 2,
    sql: `
  -- What configurations said, compressed, without secrets: the first body of each hash that was told, for good.
  create table configuration (hash text not null unique, recorded_at integer not null, body blob not null) strict;
  `,
  },
  {
    worksWith: 2,
    sql: `
  -- The mark file that stood beside this one when the epoch was opened, or a lessee written, last (sqlite-mark-file.ts).
  create table lease_mark (
    one integer primary key check (one = 1),
    epoch integer not null,
    -- Null: this system does not tell one file from its copy.
    mark text,
    -- The longest window that any epoch named, ms.
    window_max_ms integer not null
  ) strict;
  `,
  },
  {
    worksWith: 2,
    sql: `
  -- Nodes that were granted a lease and have neither said goodbye nor been retired. No lease follows from a row.
  create table admitted_node (
    node text not null,
    role text not null,
    region text not null,
    boot text not null,
    -- By the leader's clock, ms.
    heard_at integer not null,
    applied_pos integer not null,
    primary key (node, role)
  ) strict, without rowid;
  `,
  },
];

import { appendByRows } from "./append-by-rows.ts";
import type { Migration } from "./migration.ts";

/**
 * The schema of the Postgres log, as steps that are only ever added. Step n brings version n − 1 to version n, within
 * one transaction under a lock; a step that has been released is never edited.
 *
 * `log_head` is the one row that everything turns on. Whoever writes locks it first, so position n + 1 can only exist
 * after n is committed, visible and replicated (docs/protocol.md §3.1). Columns of `event` are copies for people with a
 * SQL prompt; what counts are `bytes` and `hash`.
 *
 * Refusals are raised, not returned: a transaction that is rolled back waits for no standby, so a deposed leader on the
 * wrong side of a partition is told at once. Their facts travel as JSON in the error's detail:
 *   BL001 fenced · BL002 head moved · BL003 version conflict · BL004 duplicate command · BL005 the session commits
 *   unsafely
 *
 * @param schema a name already checked to be a plain identifier
 */
export function postgresMigrations(schema: string): readonly Migration[] {
  const s = `"${schema}"`;
  return [
    {
      worksWith: 1,
      sql: `
create table ${s}.log_head (
  one boolean primary key default true check (one),
  cluster text not null,
  epoch bigint not null,
  incarnation text,
  broker_id text,
  broker_url text,
  beat bigint not null,
  pos bigint not null,
  hash bytea not null check (octet_length(hash) = 32),
  -- What the writer knew to be covered by a clean commit of its epoch when it last wrote: nobody reads above it.
  durable_pos bigint not null,
  durable_epoch bigint not null,
  durable_hash bytea not null check (octet_length(durable_hash) = 32),
  partition_size bigint not null default 1000000 check (partition_size > 0),
  -- Positions below this one have a partition.
  partitioned_to bigint not null default 0
) with (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = off);

create table ${s}.log_epoch (
  epoch bigint primary key,
  incarnation text not null,
  start_pos bigint not null unique,
  previous_hash bytea not null,
  broker_id text not null,
  broker_url text,
  pg_timeline text not null,
  opened_at timestamptz not null default clock_timestamp()
);

create table ${s}.event (
  pos bigint not null,
  epoch bigint not null,
  event_id uuid not null,
  stream text not null,
  version bigint not null,
  type text not null,
  schema_version integer not null,
  effect text not null,
  recorded_at timestamptz not null,
  actor text not null,
  cause uuid,
  hash bytea not null,
  bytes bytea not null,
  primary key (pos)
) partition by range (pos);
alter table ${s}.event alter column bytes set storage external; -- mostly ciphertext: compression would gain nothing

create table ${s}.stream_head (stream text collate "C" primary key, version bigint not null) with (fillfactor = 80);

create table ${s}.command (
  command_id uuid primary key,
  first_pos bigint not null,
  count integer not null,
  -- The last position of its batch: the command counts once that is durable.
  through_pos bigint not null,
  at timestamptz not null default clock_timestamp()
);
create index command_by_age on ${s}.command using brin (at) with (pages_per_range = 16, autosummarize = on);

create table ${s}.lessee (
  node text not null,
  boot text not null,
  region text not null,
  role text not null,
  window_ms bigint not null,
  primary key (node, boot)
);

-- A person without a wrapped key is erased, and stays so.
create table ${s}.person_key (user_id text primary key, key_id bytea not null, wrapped bytea);

create table ${s}.vault (session_id text primary key, version bigint not null, sealed bytea not null);
alter table ${s}.vault alter column sealed set storage external;

-- Locks the head row. Every writer's transaction begins here.
create function ${s}.lock_head(_asynchronous boolean) returns ${s}.log_head language plpgsql as $$
declare h ${s}.log_head;
begin
  if current_setting('synchronous_commit') not in ('on', 'remote_apply') and not _asynchronous then
    raise exception 'synchronous_commit is %', current_setting('synchronous_commit') using errcode = 'BL005';
  end if;
  if current_setting('client_min_messages') = 'error' then -- a cancelled wait for a standby is told by a warning alone
    raise exception 'client_min_messages hides warnings' using errcode = 'BL005';
  end if;
  select * into strict h from ${s}.log_head for update;
  return h;
end $$;

create function ${s}.refuse_writer(h ${s}.log_head, _epoch bigint, _incarnation text, _pos bigint, _hash bytea) returns void
language plpgsql as $$
begin
  if h.epoch <> _epoch or h.incarnation is distinct from _incarnation then
    raise exception 'fenced' using errcode = 'BL001', detail = json_build_object('epoch', h.epoch)::text;
  end if;
  if h.pos <> _pos or h.hash <> _hash then
    raise exception 'the head moved' using errcode = 'BL002',
      detail = json_build_object('epoch', h.epoch, 'pos', h.pos, 'hash', encode(h.hash, 'hex'))::text;
  end if;
end $$;

-- Attached rather than created in place: that takes no lock which a reader or a writer would wait for.
create function ${s}.prepare_partitions(_through bigint) returns void language plpgsql as $$
declare
  h ${s}.log_head;
  part text;
begin
  select * into strict h from ${s}.log_head;
  while h.partitioned_to <= _through loop
    part := format('%I.%I', '${schema}', 'event_' || h.partitioned_to);
    execute format('create table %s (like ${s}.event including defaults including constraints including indexes including storage)', part);
    execute format('alter table ${s}.event attach partition %s for values from (%s) to (%s)',
      part, h.partitioned_to, h.partitioned_to + h.partition_size);
    h.partitioned_to := h.partitioned_to + h.partition_size;
  end loop;
  update ${s}.log_head set partitioned_to = h.partitioned_to;
end $$;

-- Makes the next partition well before it is needed; while there is still room, somebody's lock on the table may put it off.
create function ${s}.prepare_ahead(h ${s}.log_head, _last bigint) returns void language plpgsql as $$
begin
  if _last >= h.partitioned_to then
    perform ${s}.prepare_partitions(_last);
  end if;
  if _last >= h.partitioned_to - h.partition_size / 4 then
    begin
      perform set_config('lock_timeout', '50ms', true);
      perform ${s}.prepare_partitions(greatest(h.partitioned_to, _last + h.partition_size / 4));
    exception when lock_not_available then null;
    end;
  end if;
end $$;

create function ${s}.open_epoch(
  _asynchronous boolean, _expected bigint, _previous_pos bigint, _previous_hash bytea,
  _epoch bigint, _incarnation text, _broker_id text, _broker_url text,
  _hash bytea, _bytes bytea, _event_id uuid, _stream text, _version bigint, _type text, _schema_version integer,
  _effect text, _recorded_at bigint, _actor text, _cause uuid
) returns void language plpgsql as $$
declare h ${s}.log_head := ${s}.lock_head(_asynchronous);
begin
  perform ${s}.refuse_writer(h, _expected, h.incarnation, _previous_pos, _previous_hash);
  perform ${s}.prepare_ahead(h, h.pos + 1);
  insert into ${s}.event values (h.pos + 1, _epoch, _event_id, _stream, _version, _type, _schema_version, _effect,
    to_timestamp(_recorded_at / 1000::float8), _actor, _cause, _hash, _bytes);
  insert into ${s}.stream_head values (_stream, _version) on conflict (stream) do update set version = excluded.version;
  insert into ${s}.log_epoch (epoch, incarnation, start_pos, previous_hash, broker_id, broker_url, pg_timeline)
    values (_epoch, _incarnation, h.pos + 1, h.hash, _broker_id, _broker_url, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8));
  update ${s}.log_head set epoch = _epoch, incarnation = _incarnation, broker_id = _broker_id, broker_url = _broker_url,
    beat = h.beat + 1, pos = h.pos + 1, hash = _hash;
end $$;

create function ${s}.append(
  _asynchronous boolean, _epoch bigint, _incarnation text, _previous_pos bigint, _previous_hash bytea,
  _durable_pos bigint, _durable_epoch bigint, _durable_hash bytea,
  -- one per event; their bytes and hashes lie end to end
  _block bytea, _offset integer[], _length integer[], _hashes bytea,
  _event_id uuid[], _stream text[], _version bigint[], _type text[], _schema_version integer[], _effect text[],
  _recorded_at bigint[], _actor text[], _cause uuid[],
  -- one per command
  _command uuid[], _command_first bigint[], _command_count integer[],
  -- one per distinct stream
  _head_stream text[], _expected bigint[], _next bigint[],
  _key_user text[], _key_id bytea[], _key_wrapped bytea[], _erased text[],
  _vault_session text[], _vault_version bigint[], _vault_sealed bytea[], _vault_removed text[]
) returns void language plpgsql as $$
declare
  h ${s}.log_head := ${s}.lock_head(_asynchronous);
  k integer := cardinality(_length);
  changed integer;
  created integer;
  refusal json;
begin
  perform ${s}.refuse_writer(h, _epoch, _incarnation, _previous_pos, _previous_hash);

  -- Commands and versions are written first and counted: only where the count is wrong is it worth looking why.
  begin
    insert into ${s}.command (command_id, first_pos, count, through_pos)
      select x.command_id, x.first_pos, x.count, _previous_pos + k
      from unnest(_command, _command_first, _command_count) as x(command_id, first_pos, count);
    update ${s}.stream_head t set version = x.next
      from unnest(_head_stream, _expected, _next) as x(stream, expected, next)
      where x.expected > 0 and t.stream = x.stream and t.version = x.expected;
    get diagnostics changed = row_count;
    insert into ${s}.stream_head
      select x.stream, x.next from unnest(_head_stream, _expected, _next) as x(stream, expected, next) where x.expected = 0;
    get diagnostics created = row_count;
    if changed + created <> cardinality(_head_stream) then
      raise unique_violation;
    end if;
  exception when unique_violation then
    select json_build_object('commandId', c.command_id, 'first', c.first_pos, 'count', c.count) into refusal
      from unnest(_command) with ordinality as x(command_id, o) join ${s}.command c on c.command_id = x.command_id
      order by x.o limit 1;
    if refusal is not null then
      raise exception 'duplicate command' using errcode = 'BL004', detail = refusal::text;
    end if;
    select json_agg(json_build_object('stream', x.stream, 'actual', coalesce(t.version, 0)) order by x.o) into refusal
      from unnest(_head_stream, _expected) with ordinality as x(stream, expected, o)
      left join ${s}.stream_head t on t.stream = x.stream
      where coalesce(t.version, 0) <> x.expected;
    raise exception 'version conflict' using errcode = 'BL003', detail = coalesce(refusal, '[]')::text;
  end;

  if _previous_pos + k >= h.partitioned_to - h.partition_size / 4 then
    perform ${s}.prepare_ahead(h, _previous_pos + k);
  end if;

  insert into ${s}.event
    select _previous_pos + e.o, _epoch, e.event_id, e.stream, e.version, e.type, e.schema_version, e.effect,
      to_timestamp(e.recorded_at / 1000::float8), e.actor, e.cause,
      substr(_hashes, 32 * (e.o::integer - 1) + 1, 32), substr(_block, e.at, e.length)
    from unnest(_offset, _length, _event_id, _stream, _version, _type, _schema_version, _effect, _recorded_at, _actor, _cause)
      with ordinality as e(at, length, event_id, stream, version, type, schema_version, effect, recorded_at, actor, cause, o);

  if cardinality(_key_user) > 0 then
    insert into ${s}.person_key select * from unnest(_key_user, _key_id, _key_wrapped) on conflict (user_id) do nothing;
  end if;
  if cardinality(_erased) > 0 then
    insert into ${s}.person_key select x.user_id, '', null from unnest(_erased) as x(user_id)
      on conflict (user_id) do update set key_id = '', wrapped = null;
  end if;
  if cardinality(_vault_session) > 0 then
    insert into ${s}.vault as v select * from unnest(_vault_session, _vault_version, _vault_sealed)
      on conflict (session_id) do update set version = excluded.version, sealed = excluded.sealed
      where v.version < excluded.version;
  end if;
  if cardinality(_vault_removed) > 0 then
    delete from ${s}.vault where session_id = any (_vault_removed);
  end if;

  update ${s}.log_head set pos = _previous_pos + k, hash = substr(_hashes, 32 * (k - 1) + 1, 32), beat = h.beat + 1,
    durable_pos = case when _durable_pos > h.durable_pos then _durable_pos else h.durable_pos end,
    durable_epoch = case when _durable_pos > h.durable_pos then _durable_epoch else h.durable_epoch end,
    durable_hash = case when _durable_pos > h.durable_pos then _durable_hash else h.durable_hash end;
end $$;

create function ${s}.beat(
  _asynchronous boolean, _epoch bigint, _incarnation text, _pos bigint, _hash bytea,
  _durable_pos bigint, _durable_epoch bigint, _durable_hash bytea,
  _node text[], _boot text[], _region text[], _role text[], _window_ms bigint[], _left_node text[], _left_boot text[]
) returns void language plpgsql as $$
declare h ${s}.log_head := ${s}.lock_head(_asynchronous);
begin
  perform ${s}.refuse_writer(h, _epoch, _incarnation, _pos, _hash);
  if cardinality(_left_node) > 0 then
    delete from ${s}.lessee l using unnest(_left_node, _left_boot) as x(node, boot) where l.node = x.node and l.boot = x.boot;
  end if;
  if cardinality(_node) > 0 then
    insert into ${s}.lessee as l select * from unnest(_node, _boot, _region, _role, _window_ms)
      on conflict (node, boot) do update set region = excluded.region, role = excluded.role,
        window_ms = greatest(l.window_ms, excluded.window_ms);
  end if;
  update ${s}.log_head set beat = h.beat + 1,
    durable_pos = case when _durable_pos > h.durable_pos then _durable_pos else h.durable_pos end,
    durable_epoch = case when _durable_pos > h.durable_pos then _durable_epoch else h.durable_epoch end,
    durable_hash = case when _durable_pos > h.durable_pos then _durable_hash else h.durable_hash end;
end $$;
`,
    },
    {
      worksWith: 2,
      sql: `
-- Where the log begins: behind the event that was dropped last, or the snapshot it was refilled from. No row: it is whole.
create table ${s}.log_base (
  one boolean primary key default true check (one),
  epoch bigint not null,
  pos bigint not null,
  hash bytea not null check (octet_length(hash) = 32)
);

-- Keys are handed out page by page in the order of their bytes.
create index person_key_in_order on ${s}.person_key (user_id collate "C") where wrapped is not null;

-- Drops the oldest partition that lies wholly below a position and at or below the durable horizon. One each time, in a
-- transaction of its own: who writes waits for it as for another batch, and who reads no longer than the lock timeout.
create function ${s}.retain(_asynchronous boolean, _epoch bigint, _incarnation text, _first bigint)
returns table (epoch bigint, pos bigint, hash bytea, more boolean) language plpgsql as $$
#variable_conflict use_column
declare
  h ${s}.log_head := ${s}.lock_head(_asynchronous);
  wanted bigint;
  part text[];
  starts bigint[];
  ends bigint;
begin
  if h.epoch <> _epoch or h.incarnation is distinct from _incarnation then
    raise exception 'fenced' using errcode = 'BL001', detail = json_build_object('epoch', h.epoch)::text;
  end if;
  wanted := least(_first - 1, h.durable_pos);
  select array_agg(p.name order by p.start), array_agg(p.start order by p.start) into part, starts from (
    select c.relname as name, substr(c.relname, 7)::bigint as start from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = '${s}.event'::regclass order by 2 limit 3
  ) as p;
  more := false;
  if cardinality(part) > 1 and starts[2] - 1 <= wanted then
    ends := starts[2] - 1;
    insert into ${s}.log_base as b (epoch, pos, hash)
      select e.epoch, e.pos, e.hash from ${s}.event e where e.pos = ends
      on conflict (one) do update set epoch = excluded.epoch, pos = excluded.pos, hash = excluded.hash;
    if not found then
      raise exception 'there is no event at %', ends;
    end if;
    perform set_config('lock_timeout', '200ms', true);
    execute format('drop table %I.%I', '${schema}', part[1]);
    more := cardinality(part) > 2 and starts[3] - 1 <= wanted;
  end if;
  return query select b.epoch, b.pos, b.hash, more from ${s}.log_base b;
end $$;
`,
    },
    {
      worksWith: 2,
      sql: `
-- What configurations said, compressed, without secrets: the first body of each hash that was told, for good.
create table ${s}.configuration (
  hash text primary key,
  recorded_at timestamptz not null,
  body bytea not null
);

-- Called beside append, in its statement: the bodies of configurations that the batch activates.
create function ${s}.put_configurations(_hash text[], _recorded_at bigint[], _body bytea[], _most integer) returns void
language plpgsql as $$
declare room integer;
begin
  select _most - count(*) into room from ${s}.configuration;
  for i in 1 .. cardinality(_hash) loop
    exit when room <= 0;
    insert into ${s}.configuration (hash, recorded_at, body)
      values (_hash[i], to_timestamp(_recorded_at[i] / 1000::float8), _body[i]) on conflict (hash) do nothing;
    if found then
      room := room - 1;
    end if;
  end loop;
end $$;
`,
    },
    {
      worksWith: 2,
      sql: `
-- Where each epoch was opened: the evidence by which the next one knows that no beat was lost. Null: an older build opened it.
alter table ${s}.log_epoch
  add column pg_system text,
  add column pg_start text,
  -- The transaction that wrote this row; its xmin, unless the row was copied here.
  add column pg_xact bigint,
  -- The longest window that its broker grants, ms.
  add column window_max_ms bigint;

-- Null: the server's owner has withdrawn the right to ask.
create function ${s}.system_identifier() returns text language plpgsql as $$
begin
  return (select system_identifier::text from pg_control_system());
exception when insufficient_privilege then
  return null;
end $$;

-- Emptied by a crash, left out of base backups and of standbys: it outlives a clean shutdown only.
create unlogged table ${s}.epoch_mark (
  one boolean primary key default true check (one),
  incarnation text not null
);
`,
    },
    {
      worksWith: 2,
      sql: `
-- Nodes that were granted a lease and have neither said goodbye nor been retired. No lease follows from a row.
create table ${s}.admitted_node (
  node text not null,
  role text not null,
  region text not null,
  boot text not null,
  heard_at timestamptz not null,
  applied_pos bigint not null,
  primary key (node, role)
);

-- Called beside beat and append, in their statement.
create function ${s}.note_nodes(
  _gone_node text[], _gone_role text[],
  _node text[], _role text[], _region text[], _boot text[], _heard_at bigint[], _applied_pos bigint[]
) returns void language plpgsql as $$
begin
  delete from ${s}.admitted_node n using unnest(_gone_node, _gone_role) as x(node, role)
    where n.node = x.node and n.role = x.role;
  insert into ${s}.admitted_node (node, role, region, boot, heard_at, applied_pos)
    select x.node, x.role, x.region, x.boot, to_timestamp(x.heard_at / 1000::float8), x.applied_pos
    from unnest(_node, _role, _region, _boot, _heard_at, _applied_pos) as x(node, role, region, boot, heard_at, applied_pos)
    on conflict (node, role) do update set region = excluded.region, boot = excluded.boot,
      heard_at = excluded.heard_at, applied_pos = excluded.applied_pos;
end $$;
`,
    },
    { worksWith: 2, sql: appendByRows(s) },
  ];
}

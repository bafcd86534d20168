/**
 * Append by rows: the step of the Postgres schema that replaces the body of its function `append`. Pure.
 *
 * The function has the arguments, refusals and effects that it had before, so builds of both versions call it, and it
 * is replaced while they do. A step that has been released is never edited.
 *
 * @param s the quoted schema
 */
export function appendByRows(s: string): string {
  return `
-- An array that is unnested in the select list is read row by row. In the from clause, it is first copied to a list of its
-- own, which took a twelfth of the processor time of an append.
create or replace function ${s}.append(
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
  changed integer := 0;
  created integer := 0;
  refusal json;
begin
  perform ${s}.refuse_writer(h, _epoch, _incarnation, _previous_pos, _previous_hash);

  -- Commands and versions are written first and counted: only where the count is wrong is it worth looking why.
  begin
    insert into ${s}.command (command_id, first_pos, count, through_pos)
      select unnest(_command), unnest(_command_first), unnest(_command_count), _previous_pos + k;
    if 0 < any (_expected) then
      update ${s}.stream_head t set version = x.next
        from (select unnest(_head_stream) as stream, unnest(_expected) as expected, unnest(_next) as next) as x
        where x.expected > 0 and t.stream = x.stream and t.version = x.expected;
      get diagnostics changed = row_count;
    end if;
    if 0 = any (_expected) then
      insert into ${s}.stream_head
        select x.stream, x.next
        from (select unnest(_head_stream) as stream, unnest(_expected) as expected, unnest(_next) as next) as x
        where x.expected = 0;
      get diagnostics created = row_count;
    end if;
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
      substr(_hashes, 32 * (e.o - 1) + 1, 32), substr(_block, e.at, e.length)
    from (
      select generate_subscripts(_length, 1) as o, unnest(_offset) as at, unnest(_length) as length,
        unnest(_event_id) as event_id, unnest(_stream) as stream, unnest(_version) as version, unnest(_type) as type,
        unnest(_schema_version) as schema_version, unnest(_effect) as effect, unnest(_recorded_at) as recorded_at,
        unnest(_actor) as actor, unnest(_cause) as cause
    ) as e;

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
`;
}

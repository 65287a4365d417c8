-- Taking messages in, at a third of the price: what the database was seen to spend its time on, per message, is gone.

-- A foreign key costs every insert a trigger, also where it is null, and most messages have no author. Services are
-- never deleted.
alter table message drop constraint message_author_service_id_fkey;

-- One table: to open eight partitions for a batch of thirty keys costs more than they save.
create table inbound_key_0003 (
    key bytea primary key,
    at timestamptz not null default now()
);
insert into inbound_key_0003 select key, at from inbound_key order by at;
drop table inbound_key;
alter table inbound_key_0003 rename to inbound_key;
alter index inbound_key_0003_pkey rename to inbound_key_pkey;
-- The table grows in order of time, so a summary per range of pages is enough and costs inserts next to nothing.
create index inbound_key_age on inbound_key using brin (at) with (autosummarize = on);

-- Takes the shards' locks, ascending so that two callers cannot deadlock, and gives each one's last id, in the order
-- asked for: read by statements that start after the locks were taken, so volatile. Only the latest ids are looked at,
-- so that old partitions stay out of it: 0 where a shard has none among a million, which readers take for not known.
create function take_shards(shards smallint[]) returns bigint[] language plpgsql volatile
set plan_cache_mode = force_generic_plan as $$
declare
    last_id bigint;
    heads bigint[];
begin
    perform pg_advisory_xact_lock(7001, s.shard) from (select shard from unnest(shards) shard order by shard) s;
    select s.last_value into last_id from event_id_seq s;
    heads := array(
        select (select e.id from event e where e.shard = s.shard and e.id > last_id - 1000 and e.id <= last_id
                order by e.id desc limit 1)
        from unnest(shards) with ordinality s (shard, n) order by s.n);
    if array_position(heads, null) is not null then
        heads := array(
            select coalesce(heads[s.n],
                            (select e.id from event e
                             where e.shard = s.shard and e.id > last_id - 1000000 and e.id <= last_id
                             order by e.id desc limit 1), 0)
            from unnest(shards) with ordinality s (shard, n) order by s.n);
    end if;
    return heads;
end $$;

create or replace function lock_shards(shards smallint[], count integer, out prev_ids bigint[], out ids bigint[])
language plpgsql volatile as $$
begin
    prev_ids := take_shards(shards);
    ids := array(select nextval('event_id_seq') from generate_series(1, count));
end $$;

-- Takes in messages whose conversations are known, in one statement and so in one round trip: drops those seen before
-- (B4), numbers the others within their conversations (B6), stores them and logs their events. Rows come in order of
-- acceptance; a message for several channels is several rows with one key. What rows have in common comes once, and
-- they say where, counted from 1: `places` of their conversations, `kinds` of what they are, `shard_places` of the
-- conversations' shards. Gives for each row its event, predecessor and sequence number, null where it was seen before,
-- and for each conversation when its reply window closes.
-- Error PL001: what the caller remembered is out of date, nothing was stored. Locks as everywhere (E2): conversations
-- by id, then shards ascending; the connection joins in the order given.
drop function take_messages;
create function take_messages(
    known_version bigint, at timestamptz,
    keys bytea[], ids uuid[], places integer[], kinds integer[], contents text[], provider_ids text[],
    provider_times timestamptz[], datas text[],
    conversations uuid[], generations integer[], shard_places integer[], shards smallint[],
    number_ids bigint[], channels uuid[], media text[], providers text[], unrouted boolean[], types text[],
    out event_ids bigint[], out prev_ids bigint[], out sequences bigint[], out expiries timestamptz[]
) language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    total constant integer := cardinality(ids);
    new_keys bytea[];
    is_new boolean[];
    counts integer[] := array_fill(0, array[cardinality(conversations)]);
    latest timestamptz[] := array_fill(null::timestamptz, array[cardinality(conversations)]);
    lasts bigint[];
    heads bigint[];
    place integer;
begin
    if known_version is distinct from (select version from roster_version) then
        raise exception 'roster changed' using errcode = 'PL001';
    end if;
    event_ids := array_fill(null::bigint, array[total]);
    prev_ids := event_ids;
    sequences := event_ids;

    -- Nearly always all of them are new, and `on conflict` would look each one up twice.
    begin
        insert into inbound_key (key) select distinct k from unnest(keys) k order by k;
    exception when unique_violation then
        with added as (
            insert into inbound_key (key) select distinct k from unnest(keys) k order by k
            on conflict do nothing returning key
        )
        select array_agg(key) into new_keys from added;
        if new_keys is null then
            return;
        end if;
        is_new := array(select k in (select unnest(new_keys)) from unnest(keys) with ordinality r (k, n) order by n);
    end;

    for n in 1 .. total loop
        continue when not is_new[n];
        place := places[n];
        counts[place] := counts[place] + 1;
        latest[place] := greatest(latest[place], least(provider_times[n], at));
    end loop;
    with numbered as (
        update conversation c set last_sequence = c.last_sequence + counts[o.place],
                                  last_customer_at = greatest(c.last_customer_at, latest[o.place])
        from (select * from unnest(conversations, generations) with ordinality u (id, generation, place) order by id) o
        where c.id = o.id and c.generation = o.generation
        returning o.place, c.last_sequence - counts[o.place] as last,
                  case when c.medium = 'whatsapp' then c.last_customer_at + interval '24 hours' end as expiry
    )
    select array_agg(last order by place), array_agg(expiry order by place) into lasts, expiries from numbered;
    if coalesce(cardinality(lasts), 0) <> cardinality(conversations) then
        raise exception 'conversation changed' using errcode = 'PL001';
    end if;

    heads := take_shards(shards);
    for n in 1 .. total loop
        continue when not is_new[n];
        place := places[n];
        sequences[n] := lasts[place] + 1;
        lasts[place] := sequences[n];
        place := shard_places[place];
        event_ids[n] := nextval('event_id_seq');
        prev_ids[n] := heads[place];
        heads[place] := event_ids[n];
    end loop;

    insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                         provider, created_at, provider_id, provider_time, unrouted)
    select ids[n], number_ids[kinds[n]], channels[kinds[n]], conversations[places[n]], sequences[n], 'inbound',
           media[kinds[n]], types[kinds[n]], 'customer', contents[n], providers[kinds[n]], at, provider_ids[n],
           provider_times[n], unrouted[kinds[n]]
    from generate_series(1, total) n where event_ids[n] is not null;
    insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence,
                       reply_window_expires_at, message_id, data, created_at)
    select event_ids[n], shards[shard_places[places[n]]], prev_ids[n], 'message.received', number_ids[kinds[n]],
           channels[kinds[n]], conversations[places[n]], sequences[n], expiries[places[n]], ids[n], datas[n], at
    from generate_series(1, total) n where event_ids[n] is not null;
end $$;

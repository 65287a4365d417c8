-- The fan-out engine: shards leased to dispatchers and fenced, parked lanes, pausing, replays, what may be seen of it all.

-- Subscriptions ------------------------------------------------------------------------------------------------------

-- run goes up when what waited is skipped, and when the subscription ends: what a dispatcher still writes of an earlier
-- run is told apart. start_positions: where
-- the subscription began to hear, per shard (A10).
alter table subscription
    add column run integer not null default 0,
    add column paused_reason text check (paused_reason in ('asked', 'operator', 'gone', 'failing')),
    add column on_exhausted text not null default 'continue' check (on_exhausted in ('continue', 'hold')),
    add column start_positions bigint[],
    add check ((state = 'paused') = (paused_at is not null)),
    add check ((state = 'paused') = (paused_reason is not null));

-- What became of a subscription's deliveries over its whole life.
create table delivery_health (
    subscription_id uuid primary key references subscription,
    delivered bigint not null default 0,
    refused bigint not null default 0,
    failed bigint not null default 0,
    gone bigint not null default 0,
    last_delivered_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    failing_since timestamptz
) with (fillfactor = 50);

-- Dispatchers and their shards ---------------------------------------------------------------------------------------

-- A process that delivers. It is alive while its lease has not expired and its session holds the advisory lock
-- (7005, id): a killed process loses the lock at once, a stopped one its lease.
create table dispatcher (
    id integer generated always as identity primary key,
    started_at timestamptz not null default now(),
    expires_at timestamptz not null
) with (fillfactor = 50);

-- A shard is leased as long as its owner's lease lasts. The epoch goes up with every change of owner. The shard's
-- cursors tell all that is in `delivered` up to the checkpoint; what came later is read there by who takes over.
drop table shard_lease;
create table shard_lease (
    shard smallint primary key check (shard between 0 and 63),
    owner integer,
    epoch bigint not null default 0,
    checkpoint bigint not null default 0
) with (fillfactor = 50);
insert into shard_lease (shard) select generate_series(0, 63);

-- Deliveries that were accepted, a row per flush whatever the number of subscribers: `entries` packs which subscription
-- got which event, with HTTP status and milliseconds. Attempts that failed are rows of `attempt`.
create table delivered (
    id bigint generated always as identity primary key,
    owner integer not null,
    at timestamptz not null default now(),
    entries bytea not null
);
alter table attempt add constraint attempt_outcome check (outcome in ('refused', 'failed', 'gone'));
-- What is done above the position: with it, a cursor tells everything.
alter table cursor add column done bigint[] not null default '{}';

-- What a dispatcher sees of a subscription just now; of all its dispatchers together it is the whole truth.
create table delivery_state (
    subscription_id uuid not null references subscription,
    owner integer not null references dispatcher on delete cascade,
    breaker text not null check (breaker in ('closed', 'open', 'half_open')),
    retry_at timestamptz,
    in_flight integer not null,
    waiting integer not null,
    behind bigint not null,
    oldest_at timestamptz,
    parked integer not null,
    updated_at timestamptz not null default now(),
    primary key (subscription_id, owner)
) with (fillfactor = 50);
create index delivery_state_owner on delivery_state (owner);

create function join_dispatchers(lease interval) returns integer language plpgsql volatile as $$
declare
    me integer;
begin
    insert into dispatcher (expires_at) values (clock_timestamp() + lease) returning id into me;
    perform pg_advisory_lock(7005, me);
    return me;
end $$;

create function live_dispatchers() returns setof integer language sql volatile as $$
    select d.id from dispatcher d
    where d.expires_at > clock_timestamp() and exists (
        select from pg_locks l
        where l.locktype = 'advisory' and l.classid = 7005 and l.objid = d.id::oid and l.objsubid = 2 and l.granted
          and l.database = (select oid from pg_database where datname = current_database()))
$$;

-- Renews the caller's lease, takes free shards and those of dead dispatchers up to a fair share, and gives all that are
-- its own now. Nobody's shards are taken while a flush of theirs runs (lock 7006), and no flush of theirs succeeds
-- afterwards. Error PL002: the caller itself was given up.
create function keep_shards(me integer, lease interval)
returns table (shard smallint, epoch bigint, fair_share integer)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    live integer[];
    dead integer;
    share integer;
    room integer;
    taken integer;
begin
    update dispatcher set expires_at = clock_timestamp() + lease where id = me;
    if not found then
        raise exception 'given up' using errcode = 'PL002';
    end if;
    live := array(select live_dispatchers());
    share := ceil(64.0 / greatest(cardinality(live), 1));
    room := share - (select count(*) from shard_lease l where l.owner = me);
    if room > 0 then
        update shard_lease l set owner = me, epoch = l.epoch + 1
        where l.shard in (
            select f.shard from shard_lease f where f.owner is null order by f.shard limit room for update skip locked);
        get diagnostics taken = row_count;
        room := room - taken;
    end if;
    for dead in select d.id from dispatcher d where d.id <> me and d.id <> all(live) order by d.id for update skip locked loop
        if exists (select from live_dispatchers() a where a = dead) or not pg_try_advisory_xact_lock(7006, dead) then
            continue;
        end if;
        if room > 0 then
            update shard_lease l set owner = me, epoch = l.epoch + 1
            where l.shard in (
                select f.shard from shard_lease f where f.owner = dead order by f.shard limit room for update skip locked);
            get diagnostics taken = row_count;
            room := room - taken;
        end if;
        delete from dispatcher d where d.id = dead and not exists (select from shard_lease l where l.owner = dead);
    end loop;
    return query select l.shard, l.epoch, share from shard_lease l where l.owner = me order by l.shard;
end $$;

create function release_shards(me integer, shards smallint[]) returns void language sql volatile as $$
    update shard_lease set owner = null where owner = me and shard = any(shards)
$$;

create function leave_dispatchers(me integer) returns void language sql volatile as $$
    update shard_lease set owner = null where owner = me;
    delete from dispatcher where id = me;
    select pg_advisory_unlock(7005, me);
$$;

-- Parked lanes, dead letters -----------------------------------------------------------------------------------------

-- A parked lane covers its conversation's events from first_event_id on, so that the cursor may pass over them.
-- next_attempt_at is infinity where the lane is held until somebody replays or drops its first event.
alter table parked_lane add column run integer not null default 0;
create index parked_lane_shard on parked_lane (shard);

-- What a dispatcher asks when it takes a lane's events from the log again.
create index event_lane on event ((coalesce(conversation_id, channel_id)), id);

-- Replays (G3) -------------------------------------------------------------------------------------------------------

-- A replay is a second cursor over the log. `lane`: this conversation's events only; `only_ids`: these events only.
create table replay (
    id uuid primary key,
    subscription_id uuid not null references subscription,
    asked_by text not null,
    selection text not null,
    lane uuid,
    only_ids bigint[],
    since timestamptz,
    until timestamptz,
    created_at timestamptz not null default now(),
    cancelled_at timestamptz
);
create index replay_subscription on replay (subscription_id, created_at);

create table replay_shard (
    replay_id uuid not null references replay,
    shard smallint not null,
    position bigint not null,
    upto bigint not null,
    delivered bigint not null default 0,
    failed bigint not null default 0,
    finished_at timestamptz,
    primary key (replay_id, shard),
    check (position <= upto)
);
create index replay_shard_open on replay_shard (shard) where finished_at is null;
create trigger roster_changed after insert or update on replay for each statement execute function raise_roster_version();

-- Progress -----------------------------------------------------------------------------------------------------------

-- Writes down what a dispatcher did, in one transaction that nobody can get between: all of it, or nothing where one of
-- the shards is no longer the caller's at the epoch it knows; those are given back. Cursors never move back. With
-- `checkpoint_shards`, their cursors are complete up to what was delivered until now. Locks in the order replay_shard,
-- cursor, parked_lane, dead_letter, as everywhere.
create function record_progress(
    me integer, shards smallint[], epochs bigint[], delivered_entries bytea,
    attempt_subscriptions uuid[], attempt_shards smallint[], attempt_events bigint[], attempt_times timestamptz[],
    outcomes text[], http_statuses integer[], durations integer[], details text[],
    cursor_subscriptions uuid[], cursor_shards smallint[], positions bigint[], dones text[],
    parked_subscriptions uuid[], parked_runs integer[], parked_lanes uuid[], parked_shards smallint[],
    parked_firsts bigint[], parked_attempts integer[], parked_dues double precision[], parked_errors text[],
    freed_subscriptions uuid[], freed_lanes uuid[],
    dead_subscriptions uuid[], dead_events bigint[], dead_attempts integer[], dead_errors text[],
    replay_ids uuid[], replay_shards smallint[], replay_positions bigint[], replay_delivered bigint[],
    replay_failed bigint[], replay_finished boolean[], revived_subscriptions uuid[], revived_events bigint[],
    checkpoint_shards smallint[]
) returns smallint[] language plpgsql volatile as $$
declare
    lost smallint[];
begin
    perform pg_advisory_xact_lock_shared(7006, me);
    lost := array(
        select k.shard from unnest(shards, epochs) k (shard, epoch)
        where not exists (
            select from shard_lease l where l.shard = k.shard and l.owner = me and l.epoch = k.epoch));
    if cardinality(lost) > 0 then
        return lost;
    end if;

    if delivered_entries is not null then
        insert into delivered (owner, entries) values (me, delivered_entries);
    end if;
    if cardinality(attempt_events) > 0 then
        insert into attempt (subscription_id, shard, event_id, at, outcome, http_status, duration_ms, detail)
        select * from unnest(attempt_subscriptions, attempt_shards, attempt_events, attempt_times, outcomes,
                             http_statuses, durations, details);
    end if;
    if cardinality(replay_ids) > 0 then
        update replay_shard r
        set position = greatest(r.position, least(p.position, r.upto)), delivered = r.delivered + p.delivered,
            failed = r.failed + p.failed, finished_at = case when p.is_finished then now() end
        from unnest(replay_ids, replay_shards, replay_positions, replay_delivered, replay_failed, replay_finished)
             p (replay_id, shard, position, delivered, failed, is_finished)
        where r.replay_id = p.replay_id and r.shard = p.shard and r.finished_at is null;
    end if;
    if cardinality(positions) > 0 then
        update cursor c set position = p.position, done = p.done::bigint[]
        from unnest(cursor_subscriptions, cursor_shards, positions, dones) p (subscription_id, shard, position, done)
        where c.subscription_id = p.subscription_id and c.shard = p.shard and c.position <= p.position;
    end if;
    if cardinality(freed_lanes) > 0 then
        delete from parked_lane p using unnest(freed_subscriptions, freed_lanes) f (subscription_id, lane)
        where p.subscription_id = f.subscription_id and p.lane = f.lane;
    end if;
    if cardinality(parked_lanes) > 0 then
        insert into parked_lane (subscription_id, run, lane, shard, first_event_id, attempts, next_attempt_at, last_error)
        select p.subscription_id, p.run, p.lane, p.shard, p.first_event_id, p.attempts,
               case when p.due is null then 'infinity' else now() + make_interval(secs => p.due) end, p.error
        from unnest(parked_subscriptions, parked_runs, parked_lanes, parked_shards, parked_firsts, parked_attempts,
                    parked_dues, parked_errors)
             p (subscription_id, run, lane, shard, first_event_id, attempts, due, error)
        join subscription u on u.id = p.subscription_id and u.run = p.run
        on conflict (subscription_id, lane) do update
            set first_event_id = excluded.first_event_id, attempts = excluded.attempts, run = excluded.run,
                next_attempt_at = excluded.next_attempt_at, last_error = excluded.last_error;
    end if;
    if cardinality(dead_events) > 0 then
        insert into dead_letter (subscription_id, event_id, attempts, last_error)
        select * from unnest(dead_subscriptions, dead_events, dead_attempts, dead_errors)
        on conflict (subscription_id, event_id) do update
            set attempts = excluded.attempts, last_error = excluded.last_error, at = now();
    end if;
    if cardinality(revived_events) > 0 then
        delete from dead_letter d using unnest(revived_subscriptions, revived_events) r (subscription_id, event_id)
        where d.subscription_id = r.subscription_id and d.event_id = r.event_id;
    end if;
    if checkpoint_shards is not null then
        update shard_lease l set checkpoint = coalesce((select max(d.id) from delivered d), 0)
        where l.owner = me and l.shard = any(checkpoint_shards);
    end if;
    return lost;
end $$;

-- Time to id ---------------------------------------------------------------------------------------------------------

-- An id that no event at or after this time is below, found by halving: ids follow time but for the length of a
-- transaction, which a minute is more than enough for.
create function event_id_before(moment timestamptz) returns bigint language plpgsql stable as $$
declare
    low bigint := 0;
    high bigint := (select last_value + 1 from event_id_seq);
    middle bigint;
    at timestamptz;
begin
    while low < high loop
        middle := (low + high) / 2;
        select e.created_at into at from event e where e.id >= middle order by e.id limit 1;
        if at is null or at >= moment - interval '1 minute' then
            high := middle;
        else
            low := middle + 1;
        end if;
    end loop;
    return greatest(low - 1, 0);
end $$;

-- Retention ----------------------------------------------------------------------------------------------------------

-- Events that a subscription never got because the log ended before it came back: told, never a silent hole.
create table expired_range (
    id bigint generated always as identity primary key,
    subscription_id uuid not null references subscription,
    after_event_id bigint not null,
    upto_event_id bigint not null,
    noted_at timestamptz not null default now()
);
create index expired_range_subscription on expired_range (subscription_id, id);

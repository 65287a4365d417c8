-- Retention: partitions of the event log that grow with the traffic, and what is asked before one is dropped.

-- The partitions of a table and their bounds. One that is leaving is seen by none but transactions older than that.
create function partitions_of(parent regclass) returns table (name text, low text, high text, is_leaving boolean)
language sql stable set timezone = 'UTC' set datestyle = 'ISO' as $$
    select c.oid::regclass::text, b[1], b[2], i.inhdetachpending
    from pg_inherits i join pg_class c on c.oid = i.inhrelid,
    lateral regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') b
    where i.inhparent = parent
$$;

-- The shard of a conversation, or of a channel: the last six bits of its id.
create function lane_shard(lane uuid) returns smallint language sql immutable as $$
    select (('x' || right(lane::text, 2))::bit(8)::int & 63)::smallint
$$;

-- Makes partitions until one lies wholly ahead of the ids that were drawn, and one for each of the coming days. The
-- next one of the log holds as many ids as the last day used, within these limits: some thirty then hold a month,
-- however busy the hub is. They follow each other without a gap. Run by migrations and by the janitor, in a transaction
-- of its own. Gives up soon where a lock is not to be had.
drop function make_partitions(bigint, integer);
create function make_partitions(smallest bigint, days integer, biggest bigint default 1000000000) returns void
language plpgsql set lock_timeout = '1s' set timezone = 'UTC' as $$
declare
    last bigint;
    top_low bigint;
    top_high bigint;
    size bigint;
    day date;
begin
    perform pg_advisory_xact_lock(7002, 0);
    last := (select last_value from event_id_seq);
    select coalesce(max(p.low::bigint), 0), coalesce(max(p.high::bigint), last / smallest * smallest)
    into top_low, top_high from partitions_of('event') p;
    while top_low <= last loop
        size := coalesce(size, least(greatest(smallest, last - event_id_before(now() - interval '1 day')), biggest));
        perform make_partition('event', 'event_' || top_high, top_high::text, (top_high + size)::text);
        top_low := top_high;
        top_high := top_high + size;
    end loop;
    for day in select generate_series(current_date - 1, current_date + days, interval '1 day')::date loop
        perform make_partition('attempt', 'attempt_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00',
                               day + 1 || ' 00:00:00+00');
    end loop;
end $$;

-- The lowest event at or below an id that a connected subscription still needs: one beyond its cursor, one of a parked
-- lane, one to be replayed. All of them, or those alone that webhooks go to now. A shard in which nothing happened has an
-- old cursor and needs nothing.
create function lowest_needed(upto bigint, is_active boolean) returns bigint language sql stable as $$
    with hearer as materialized (
        select u.id from subscription u
        where u.disconnected_at is null and (not is_active or (u.state = 'active' and u.endpoint_url is not null))
    ), front as materialized (
        select c.shard, min(c.position) as position from hearer h join cursor c on c.subscription_id = h.id group by 1
    )
    select least(
        (select min(e.id) from front f, lateral (
             select e.id from event e
             where e.shard = f.shard and e.id > f.position and e.id <= upto order by e.id limit 1) e),
        (select min(p.first_event_id) from hearer h join parked_lane p on p.subscription_id = h.id
         where p.first_event_id <= upto),
        (select min(s.position) + 1 from hearer h join replay r on r.subscription_id = h.id
         join replay_shard s on s.replay_id = r.id
         where s.finished_at is null and r.cancelled_at is null and s.position < least(s.upto, upto)))
$$;

-- What flowed, by channel and service: counted from the event log and from what dispatchers wrote down, by the janitor
-- and never on the way of a message. Without anything of its content or its customer.

-- step: seconds of a row, from `at` on; the same is counted in three sizes, so that a long span is read from few rows.
-- service_id: whose messages and deliveries; zeros where it is nobody's, as of messages received. take_times: from a
-- message's acceptance until its provider took it; lag_times: from an event until a service had it: how many within each
-- bound of hub/domain/latency.py.
create table traffic (
    step integer not null check (step in (60, 600, 3600)),
    at timestamptz not null,
    channel_id uuid not null,
    service_id uuid not null,
    received integer not null default 0,
    accepted integer not null default 0,
    taken integer not null default 0,
    delivered integer not null default 0,
    failed integer not null default 0,
    refused integer not null default 0,
    webhooks integer not null default 0,
    retries integer not null default 0,
    answer_ms bigint not null default 0,
    take_times bigint[],
    lag_times bigint[],
    primary key (step, channel_id, at, service_id)
) with (fillfactor = 70);
create index traffic_age on traffic (step, at);

create function add_counts(counts bigint[], more bigint[]) returns bigint[] language sql immutable as $$
    select case when counts is null then more when more is null then counts else (
        select array_agg(coalesce(s, 0) + coalesce(m, 0) order by n)
        from unnest(counts, more) with ordinality as t (s, m, n)) end
$$;

-- How far was counted: in the event log a position for each shard, since only within a shard ids appear in order.
create table traffic_mark (
    id boolean primary key default true check (id),
    positions bigint[] check (cardinality(positions) = 64),
    delivered_id bigint not null default 0,
    attempt_id bigint not null default 0
);
insert into traffic_mark default values;

-- Ids below the mark that were not there when it passed: several dispatchers write, and who draws an id first need not
-- commit first. They are looked for until no transaction can be that old.
create table traffic_gap (
    source text not null check (source in ('delivered', 'attempt')),
    id bigint not null,
    seen_at timestamptz not null default now(),
    primary key (source, id)
);

-- Attempts that failed get a number, by which each is counted once; those there are have none, and are not counted.
create sequence attempt_id_seq;
alter table attempt add column id bigint;
alter table attempt alter column id set default nextval('attempt_id_seq');
create index attempt_id on attempt (id);

-- A campaign's messages, to be listed and counted; most messages are of none. Where there are messages already, it was
-- built ahead: the whole table is read for it, and nobody could write there meanwhile.
create index if not exists message_campaign on message (author_service_id, campaign, id) where campaign is not null;

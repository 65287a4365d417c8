-- The data model of the hub. Invariants are constraints here, so that a race can only lose, never corrupt.
-- Rule numbers refer to docs/rules.md.

-- Numbers and senders (A1) -------------------------------------------------------------------------------------------

create table number (
    id bigint generated always as identity primary key,
    e164 text not null unique check (e164 ~ '^\+[1-9][0-9]{6,14}$'),
    created_at timestamptz not null default now()
);

create table sender (
    id bigint generated always as identity primary key,
    number_id bigint not null references number,
    medium text not null check (medium in ('whatsapp', 'sms')),
    provider text not null check (provider in ('meta', 'twilio')),
    external_id text not null check (external_id <> ''),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    check (provider <> 'meta' or medium = 'whatsapp'),
    unique (number_id, provider, medium, external_id)
);
create unique index sender_one_active on sender (number_id, medium) where is_active;
create unique index sender_meta_id on sender (external_id) where provider = 'meta';
create unique index sender_twilio_number on sender (medium, external_id)
    where provider = 'twilio' and external_id like '+%';
create index sender_external_id on sender (provider, medium, external_id);

-- Services, keys, channels, subscriptions (A2-A11) -------------------------------------------------------------------

create table service (
    id uuid primary key,
    name text not null check (name <> ''),
    plan text not null,
    product text,
    upgraded_from_standalone boolean not null default false,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz
);

create table api_key (
    id uuid primary key,
    service_id uuid not null references service,
    secret_hash bytea not null unique,
    hint text not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
create index api_key_service on api_key (service_id);

create table channel (
    id uuid primary key,
    number_id bigint not null references number,
    kind text not null check (kind in ('shared', 'standalone')),
    owner_service_id uuid references service,
    parent_epoch integer not null default 0,
    default_share text not null default 'none' check (default_share in ('none', 'all')),
    created_at timestamptz not null default now(),
    check ((kind = 'standalone') = (owner_service_id is not null))
);
create unique index channel_one_shared on channel (number_id) where kind = 'shared';
create unique index channel_one_standalone on channel (number_id, owner_service_id) where kind = 'standalone';

create table subscription (
    id uuid primary key,
    channel_id uuid not null references channel,
    service_id uuid not null references service,
    rank bigint generated always as identity,
    is_parent boolean not null default false,
    parent_since timestamptz,
    endpoint_url text,
    event_types text[],
    display text not null default 'masked' check (display in ('masked', 'full')),
    share text not null default 'none' check (share in ('none', 'all', 'named')),
    share_with uuid[] not null default '{}',
    state text not null default 'active' check (state in ('active', 'paused')),
    paused_at timestamptz,
    connected_at timestamptz not null default now(),
    disconnected_at timestamptz,
    unique (channel_id, rank),
    check (is_parent = (parent_since is not null)),
    check (not is_parent or disconnected_at is null)
);
create unique index subscription_current on subscription (channel_id, service_id) where disconnected_at is null;
create unique index subscription_one_parent on subscription (channel_id) where is_parent;
create index subscription_service on subscription (service_id) where disconnected_at is null;

create table subscription_secret (
    id bigint generated always as identity primary key,
    subscription_id uuid not null references subscription,
    secret bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create index subscription_secret_subscription on subscription_secret (subscription_id);

-- Contacts and their addresses (B8) ----------------------------------------------------------------------------------

create table contact (
    id uuid primary key,
    name text,
    created_at timestamptz not null default now(),
    erased_at timestamptz
);

-- value is the form that was reported, never rewritten; match_key is equal for the variants of one number.
create table contact_address (
    id bigint generated always as identity primary key,
    contact_id uuid not null references contact,
    type text not null check (type in ('phone', 'user_id', 'parent_user_id', 'username', 'email', 'sender_id')),
    value text not null,
    match_key text not null,
    is_proved boolean not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz
);
create unique index contact_address_owner on contact_address (type, match_key)
    where is_proved and removed_at is null and type in ('phone', 'user_id', 'email', 'sender_id');
create unique index contact_address_once on contact_address (contact_id, type, value) where removed_at is null;

create table merge_candidate (
    id uuid primary key,
    contact_id uuid not null references contact,
    other_contact_id uuid not null references contact,
    reason text not null,
    created_at timestamptz not null default now(),
    settled_at timestamptz,
    check (contact_id < other_contact_id)
);
create unique index merge_candidate_open on merge_candidate (contact_id, other_contact_id) where settled_at is null;

-- Conversations and messages (B6, B8, E7) ----------------------------------------------------------------------------

-- generation goes up whenever an address of the contact may resolve differently: caches of ids are checked against it.
create table conversation (
    id uuid primary key,
    number_id bigint not null references number,
    channel_id uuid not null references channel,
    medium text not null check (medium in ('whatsapp', 'sms')),
    contact_id uuid not null references contact,
    reply_to_type text not null check (reply_to_type in ('phone', 'user_id', 'sender_id')),
    reply_to_value text not null,
    last_sequence bigint not null default 0,
    last_customer_at timestamptz,
    generation integer not null default 0,
    created_at timestamptz not null default now(),
    unique (channel_id, medium, contact_id)
) with (fillfactor = 70);
create index conversation_contact on conversation (contact_id, number_id, medium);

-- number_id and channel_id repeat the conversation's. They and conversation_id carry no foreign key, which would cost
-- every insert a query each: messages are only written by a transaction that holds their conversation's row lock, and
-- conversations are never deleted.
create table message (
    id uuid primary key,
    number_id bigint not null,
    channel_id uuid not null,
    conversation_id uuid not null,
    sequence bigint not null,
    direction text not null check (direction in ('inbound', 'outbound')),
    medium text not null,
    type text not null,
    origin text not null check (origin in ('customer', 'echo', 'external', 'agent', 'chatbot', 'auto_reply',
                                           'workflow', 'notification', 'scheduled', 'campaign')),
    author_service_id uuid references service,
    agent_id text,
    agent_name text,
    campaign text,
    parent_epoch integer,
    content text not null,
    provider text not null,
    provider_id text,
    provider_time timestamptz,
    status text check (status in ('queued', 'sending', 'sent', 'delivered', 'read', 'failed', 'cancelled', 'unknown')),
    error text,
    conflict boolean not null default false,
    unrouted boolean not null default false,
    raw text,
    created_at timestamptz not null default now(),
    edited_at timestamptz,
    deleted_at timestamptz,
    check ((direction = 'outbound') = (status is not null)),
    check (direction = 'inbound' or origin not in ('agent') or author_service_id is not null)
);
create unique index message_timeline on message (conversation_id, sequence);
-- What the phone app sent is one message in each channel of its number.
create unique index message_sent_as on message (provider, provider_id, channel_id)
    where direction = 'outbound' and provider_id is not null;
create index message_received_as on message using hash (provider_id) where direction = 'inbound';

create table message_status (
    message_id uuid not null references message,
    reported text not null,
    status text,
    at timestamptz not null default now(),
    provider_time timestamptz,
    details text,
    primary key (message_id, reported)
);

-- A status that came before its message's provider id was known (E7); applied when it is.
create table orphan_status (
    id bigint generated always as identity primary key,
    provider text not null,
    provider_id text,
    hub_id uuid,
    status text,
    reported text not null,
    provider_time timestamptz,
    details text,
    received_at timestamptz not null default now()
);
create index orphan_status_provider_id on orphan_status (provider, provider_id);
create index orphan_status_age on orphan_status (received_at);

-- What waits to be sent, one row per message, gone when its outcome is recorded (E8, E9). A row whose outcome is
-- unknown is held for a while, and keeps what was accepted after it in its conversation waiting.
create table outbox (
    message_id uuid primary key references message,
    sender_id bigint not null references sender,
    conversation_id uuid not null,
    sequence bigint not null,
    priority smallint not null,
    not_before timestamptz not null default now(),
    attempts integer not null default 0,
    claimed_by uuid,
    claimed_at timestamptz,
    held_until timestamptz
);
create unique index outbox_order on outbox (conversation_id, sequence);
create index outbox_due on outbox (priority, message_id);
create index outbox_urgency on outbox (conversation_id, priority, message_id);
-- What was ever handed out: few, and only ever the heads of their conversations.
create index outbox_tried on outbox (conversation_id)
    where claimed_by is not null or held_until is not null or attempts > 0;
create index outbox_held on outbox (held_until) where held_until is not null;

create table idempotency_key (
    service_id uuid not null references service,
    route text not null,
    key text not null,
    body_hash bytea not null,
    status integer,
    answer text,
    created_at timestamptz not null default now(),
    primary key (service_id, route, key)
);
create index idempotency_key_age on idempotency_key (created_at);

-- The event log and what was delivered of it (engine) ----------------------------------------------------------------

-- Ids are drawn under the shard's lock, so that within a shard they appear in order; CACHE 1 keeps sessions from
-- holding back a range of ids.
create sequence event_id_seq cache 1;

create table event (
    id bigint not null,
    shard smallint not null check (shard between 0 and 63),
    prev_id bigint not null,
    type text not null,
    number_id bigint,
    channel_id uuid,
    conversation_id uuid,
    sequence bigint,
    reply_window_expires_at timestamptz,
    message_id uuid,
    author_service_id uuid,
    audience uuid[],
    data text not null,
    created_at timestamptz not null,
    primary key (id)
) partition by range (id);
create index event_shard on event (shard, id);

create table cursor (
    subscription_id uuid not null references subscription,
    shard smallint not null,
    position bigint not null,
    primary key (subscription_id, shard)
) with (fillfactor = 50);

create table parked_lane (
    subscription_id uuid not null references subscription,
    lane uuid not null,
    shard smallint not null,
    first_event_id bigint not null,
    attempts integer not null,
    next_attempt_at timestamptz not null,
    last_error text,
    parked_at timestamptz not null default now(),
    primary key (subscription_id, lane)
);

create table shard_lease (
    shard smallint primary key,
    owner uuid,
    epoch bigint not null default 0,
    expires_at timestamptz
);
insert into shard_lease (shard) select generate_series(0, 63);

-- One row per finished delivery attempt; the acknowledged ones above a cursor are what a restart must not repeat.
create table attempt (
    subscription_id uuid not null,
    shard smallint not null,
    event_id bigint not null,
    at timestamptz not null default now(),
    outcome text not null check (outcome in ('delivered', 'refused', 'failed', 'gone')),
    http_status integer,
    duration_ms integer not null,
    detail text
) partition by range (at);
create index attempt_event on attempt (subscription_id, shard, event_id);

create table dead_letter (
    subscription_id uuid not null references subscription,
    event_id bigint not null,
    attempts integer not null,
    last_error text,
    at timestamptz not null default now(),
    primary key (subscription_id, event_id)
);

-- Takes the shards' locks, then reads each one's last id and draws `count` ids. The shards come sorted, so two callers
-- cannot deadlock. Volatile, so that the last ids are read by a statement that starts after the locks were taken.
create function lock_shards(shards smallint[], count integer, out prev_ids bigint[], out ids bigint[])
language plpgsql volatile as $$
begin
    for i in 1 .. cardinality(shards) loop
        perform pg_advisory_xact_lock(7001, shards[i]);
    end loop;
    select array_agg(coalesce((select e.id from event e where e.shard = s.shard order by e.id desc limit 1), 0) order by s.n)
    into prev_ids from unnest(shards) with ordinality as s (shard, n);
    select array_agg(nextval('event_id_seq')) into ids from generate_series(1, count);
end $$;

-- Goes up with every change of who hears what, in the transaction that changes it: what a process remembers of
-- senders and channels is good as long as the version it read with it stands.
create table roster_version (version bigint not null);
insert into roster_version values (1);
create function raise_roster_version() returns trigger language plpgsql as $$
begin
    update roster_version set version = version + 1;
    return null;
end $$;
create trigger roster_changed after insert or update or delete on sender for each statement execute function raise_roster_version();
create trigger roster_changed after insert or update or delete on channel for each statement execute function raise_roster_version();
create trigger roster_changed after insert or update or delete on subscription for each statement execute function raise_roster_version();

-- Takes in messages whose conversations are known, in one statement and so in one round trip: drops those seen before
-- (B4), numbers the others within their conversations (B6), stores them and logs their events. Rows come in order of
-- acceptance. A message for several channels is several rows with one key. Gives a row for each that was stored.
-- Error PL001: what the caller remembered is out of date, nothing was stored. Locks as everywhere (E2): conversations by
-- id, then shards ascending; the connection joins in the order given.
create function take_messages(
    known_version bigint, at timestamptz, keys bytea[], ids uuid[], conversations uuid[], generations integer[],
    number_ids bigint[], channels uuid[], media text[], types text[], contents text[], providers text[],
    provider_ids text[], provider_times timestamptz[], customer_times timestamptz[], unrouted boolean[], datas text[]
) returns table (n integer, sequence bigint, window_from timestamptz, event_id bigint, prev_id bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    fresh integer[];
    conversation_ids uuid[];
    firsts bigint[];
    latest timestamptz[];
    shards smallint[];
    wanted integer;
begin
    if known_version is distinct from (select version from roster_version) then
        raise exception 'roster changed' using errcode = 'PL001';
    end if;

    with new as (
        insert into inbound_key (key) select distinct k from unnest(keys) k order by k on conflict do nothing returning key
    )
    select array_agg(r.n order by r.n) into fresh
    from unnest(keys) with ordinality as r (key, n) join new using (key);
    if fresh is null then
        return;
    end if;

    with of_conversation as (
        select r.id, r.generation, count(*) as events, max(r.written) as written
        from unnest(conversations, generations, customer_times) with ordinality as r (id, generation, written, n)
        where r.n = any(fresh) group by 1, 2 order by 1
    ), numbered as (
        update conversation c set last_sequence = c.last_sequence + o.events,
                                  last_customer_at = greatest(c.last_customer_at, o.written)
        from of_conversation o where c.id = o.id and c.generation = o.generation
        returning c.id, c.last_sequence - o.events as first, c.last_customer_at
    )
    select array_agg(id order by id), array_agg(first order by id), array_agg(last_customer_at order by id),
           (select count(*) from of_conversation)
    into conversation_ids, firsts, latest, wanted from numbered;
    if coalesce(cardinality(conversation_ids), 0) <> wanted then
        raise exception 'conversation changed' using errcode = 'PL001';
    end if;

    select array_agg(distinct shard order by shard) into shards
    from (select (('x' || right(id::text, 2))::bit(8)::int & 63)::smallint as shard from unnest(conversation_ids) id) s;
    for i in 1 .. cardinality(shards) loop
        perform pg_advisory_xact_lock(7001, shards[i]);
    end loop;

    return query
    with head as (
        select s.shard,
               coalesce((select e.id from event e where e.shard = s.shard order by e.id desc limit 1), 0) as id
        from unnest(shards) s (shard)
    ), r as (
        select r.*, nextval('event_id_seq') as event_id
        from unnest(ids, conversations, number_ids, channels, media, types, contents, providers, provider_ids,
                    provider_times, unrouted, datas)
             with ordinality as r (id, conversation, number_id, channel, medium, type, content, provider, provider_id,
                                   provider_time, unrouted, data, n)
        where r.n = any(fresh)
    ), placed as (
        select r.*, c.shard, c.first + row_number() over (partition by r.conversation order by r.n) as sequence,
               c.window_from,
               lag(r.event_id, 1, h.id) over (partition by c.shard order by r.n) as prev_id
        from r
        join (
            select c.id, c.first, c.window_from, (('x' || right(c.id::text, 2))::bit(8)::int & 63)::smallint as shard
            from unnest(conversation_ids, firsts, latest) c (id, first, window_from)
        ) c on c.id = r.conversation
        join head h on h.shard = c.shard
    ), stored as (
        insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin,
                             content, provider, created_at, provider_id, provider_time, unrouted)
        select id, number_id, channel, conversation, sequence, 'inbound', medium, type, 'customer', content, provider, at,
               provider_id, provider_time, unrouted
        from placed
    ), logged as (
        insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence,
                           reply_window_expires_at, message_id, data, created_at)
        select event_id, shard, prev_id, 'message.received', number_id, channel, conversation, sequence,
               case when medium = 'whatsapp' then window_from + interval '24 hours' end, id, data, at
        from placed
    )
    select p.n::integer, p.sequence, p.window_from, p.event_id, p.prev_id from placed p order by p.n;
end $$;

-- A partition is made apart and then attached: that waits for no reader and lets nobody wait, where `create table ...
-- partition of` would lock out all who read or write the table.
create function make_partition(parent regclass, name text, low text, high text) returns void language plpgsql as $$
begin
    if exists (select from pg_inherits where inhrelid = to_regclass(name) and inhparent = parent) then
        return;
    end if;
    execute format('create table if not exists %I (like %s including all)', name, parent);
    execute format('alter table %s attach partition %I for values from (%L) to (%L)', parent, name, low, high);
end $$;

-- Makes the partitions that the next `ahead` ids and days will need. Run by migrations and by the janitor, in a
-- transaction of its own. Gives up soon where a lock is not to be had.
create function make_partitions(ahead bigint, days integer) returns void language plpgsql set lock_timeout = '1s' as $$
declare
    size constant bigint := 1000000;
    last bigint;
    low bigint;
    day date;
begin
    perform pg_advisory_xact_lock(7002, 0);
    last := (select last_value from event_id_seq);
    low := last / size * size;
    while low <= last + ahead loop
        perform make_partition('event', 'event_' || low / size, low::text, (low + size)::text);
        low := low + size;
    end loop;
    for day in select generate_series(current_date - 1, current_date + days, interval '1 day')::date loop
        perform make_partition('attempt', 'attempt_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00',
                               day + 1 || ' 00:00:00+00');
    end loop;
end $$;
select make_partitions(1000000, 7);

-- Duplicates and quarantine (B4, B5) ---------------------------------------------------------------------------------

-- One row per provider item that was taken in. A table of its own, because a unique key on a time-partitioned table
-- would have to contain the time and so stop nothing.
create table inbound_key (
    key bytea primary key,
    at timestamptz not null default now()
) partition by hash (key);
do $$ begin
    for i in 0 .. 7 loop
        execute format('create table inbound_key_%s partition of inbound_key for values with (modulus 8, remainder %s)', i, i);
    end loop;
end $$;
-- Each partition grows in order of time, so a summary per range of pages is enough and costs inserts next to nothing.
create index inbound_key_age on inbound_key using brin (at) with (autosummarize = on);

create table quarantine (
    id bigint generated always as identity primary key,
    item_key bytea not null unique,
    provider text not null,
    path text not null,
    content_type text,
    reason text not null,
    detail text not null,
    raw bytea not null,
    state text not null default 'open' check (state in ('open', 'noted', 'replayed')),
    times integer not null default 1,
    received_at timestamptz not null default now(),
    last_received_at timestamptz not null default now(),
    replayed_at timestamptz
);
create index quarantine_open on quarantine (id) where state = 'open';

-- Who did what -------------------------------------------------------------------------------------------------------

create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    number_id bigint,
    channel_id uuid,
    subject text,
    details text not null default '{}'
);

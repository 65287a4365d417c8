-- The shared number: who may see what when, who holds a conversation, consent, scheduling, templates and files.

-- Channels and services (A3, C2) -------------------------------------------------------------------------------------

-- Whether services on channels of their own may automate although the number is shared (A3).
alter table number add column standalone_may_automate boolean not null default false;
create trigger roster_changed after update on number for each statement execute function raise_roster_version();
-- null: the channel's default holds.
alter table subscription alter column share drop not null, alter column share drop default;

-- What each service asked to see and shared, from when on: the stricter of then and now holds (C2). Only ever added to.
create table visibility (
    id bigint generated always as identity primary key,
    channel_id uuid not null references channel,
    service_id uuid not null references service,
    display text not null check (display in ('masked', 'full')),
    share text not null check (share in ('none', 'all', 'named')),
    share_with uuid[] not null default '{}',
    since timestamptz not null
);
create index visibility_history on visibility (channel_id, service_id, since);
insert into visibility (channel_id, service_id, display, share, share_with, since)
select channel_id, service_id, display, share, share_with, connected_at from subscription order by rank;

-- Two agents (D1, D4) ------------------------------------------------------------------------------------------------

-- One holder per service, as long as the lease lasts.
create table pickup (
    conversation_id uuid not null references conversation,
    service_id uuid not null references service,
    agent_id text not null,
    agent_name text,
    since timestamptz not null,
    expires_at timestamptz not null,
    primary key (conversation_id, service_id)
);
create index pickup_service on pickup (service_id);
create index pickup_expiry on pickup (expires_at);

-- Who looks at a conversation or types just now: told to live streams and nowhere else, so nothing is lost with it.
create sequence presence_change_seq cache 1;
create unlogged table presence (
    conversation_id uuid not null,
    service_id uuid not null,
    agent_id text not null,
    agent_name text,
    channel_id uuid not null,
    state text not null check (state in ('viewing', 'typing', 'left')),
    since timestamptz not null,
    expires_at timestamptz not null,
    change bigint not null,
    primary key (conversation_id, service_id, agent_id)
);
create index presence_change on presence (change);

-- A conversation that waits for the service it was passed to.
create table passed_conversation (
    conversation_id uuid primary key references conversation,
    from_service_id uuid not null references service,
    to_service_id uuid not null references service,
    agent_name text,
    note text,
    at timestamptz not null
);
create index passed_conversation_to on passed_conversation (to_service_id);
create index passed_conversation_from on passed_conversation (from_service_id);

-- picked_up_by: the longest-standing holder as JSON, so that taking messages in need not look for it. opened_by: the
-- service whose message began it (E3).
alter table conversation add column picked_up_by text, add column opened_by uuid;
-- A channel's conversations by age.
create index conversation_channel on conversation (channel_id, id);
create index conversation_opened_by on conversation (opened_by, created_at) where opened_by is not null;

-- written_at: when the message was written that the event is about, where that was not just now; what its author shared
-- then counts (C2). picked_up_by: who held the conversation.
alter table event add column written_at timestamptz, add column picked_up_by text;

-- Consent (E5) -------------------------------------------------------------------------------------------------------

-- The ledger; what holds now follows from all of it. number_id null: all numbers of the organisation.
create table consent_event (
    id bigint generated always as identity primary key,
    medium text not null check (medium in ('whatsapp', 'sms')),
    address_type text not null,
    address_key text not null,
    address_value text not null,
    number_id bigint references number,
    kind text not null check (kind in ('granted', 'revoked', 'stop', 'start', 'marketing_stop', 'marketing_resume')),
    source text not null check (source in ('customer', 'service', 'operator', 'provider')),
    service_id uuid references service,
    message_id uuid,
    evidence text,
    at timestamptz not null
);
create index consent_event_address on consent_event (medium, address_type, address_key, id);

-- Sending (E3, E9, E11) ----------------------------------------------------------------------------------------------

-- rate: messages a second, null: the configured rate of its medium. account: Meta's WhatsApp business account.
alter table sender add column rate real check (rate > 0), add column account text,
                   add column templates_refreshed_at timestamptz;
alter table message add column send_at timestamptz, add column segments smallint;
-- What a service's agents said lately (E3).
create index message_by_agent on message (author_service_id, created_at) where origin = 'agent';
-- Sends whose outcome became unknown lately: their provider is asked, by whoever owns the queue then (E8).
create index message_status_unknown on message_status (at) where reported = 'unknown';

-- Messages whose time has not come; then they go into the outbox, behind all that was accepted in their conversation.
create table schedule (
    message_id uuid primary key references message,
    sender_id bigint not null references sender,
    conversation_id uuid not null,
    priority smallint not null,
    due_at timestamptz not null
);
create index schedule_due on schedule (due_at);
-- Two may have the same place then.
drop index outbox_order;
create index outbox_order on outbox (conversation_id, sequence, message_id);
-- Each sender's queue is walked by itself (E9): those without tokens are not read at all.
drop index outbox_due;
create index outbox_sender on outbox (sender_id, priority, message_id);

-- Templates and files (E10) ------------------------------------------------------------------------------------------

-- The provider's list as it was read last.
create table template (
    sender_id bigint not null references sender,
    external_id text not null,
    name text not null,
    language text,
    category text,
    status text,
    content text not null,
    primary key (sender_id, external_id)
);

-- A file that a service uploaded; the bytes lie under DATA_DIR, by their hash.
create table media (
    id uuid primary key,
    service_id uuid not null references service,
    mime_type text not null,
    filename text not null,
    size bigint not null,
    sha256 bytea not null,
    created_at timestamptz not null
);

-- Under which id a sender's provider keeps it.
create table media_upload (
    media_id uuid not null references media,
    sender_id bigint not null references sender,
    provider_id text not null,
    expires_at timestamptz not null,
    primary key (media_id, sender_id)
);

-- Taking messages in (B4, B6 to B8) ----------------------------------------------------------------------------------

-- As before; and says who holds each conversation.
drop function take_messages;
create function take_messages(
    known_version bigint, at timestamptz,
    keys bytea[], ids uuid[], places integer[], kinds integer[], contents text[], provider_ids text[],
    provider_times timestamptz[], datas text[],
    conversations uuid[], generations integer[], shard_places integer[], shards smallint[],
    number_ids bigint[], channels uuid[], media text[], providers text[], unrouted boolean[], types text[],
    out event_ids bigint[], out prev_ids bigint[], out sequences bigint[], out expiries timestamptz[], out holders text[]
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
                  case when c.medium = 'whatsapp' then c.last_customer_at + interval '24 hours' end as expiry,
                  c.picked_up_by
    )
    select array_agg(last order by place), array_agg(expiry order by place), array_agg(picked_up_by order by place)
    into lasts, expiries, holders from numbered;
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
                       reply_window_expires_at, message_id, data, created_at, picked_up_by)
    select event_ids[n], shards[shard_places[places[n]]], prev_ids[n], 'message.received', number_ids[kinds[n]],
           channels[kinds[n]], conversations[places[n]], sequences[n], expiries[places[n]], ids[n], datas[n], at,
           holders[places[n]]
    from generate_series(1, total) n where event_ids[n] is not null;
end $$;

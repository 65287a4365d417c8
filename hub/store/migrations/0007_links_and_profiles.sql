-- Tracked links, clicks, web visits, and the profiles they are stitched to (rules F, K and I of docs/links.md).

create extension if not exists btree_gist;

-- Contacts (I1 to I7) ------------------------------------------------------------------------------------------------

-- A merged contact keeps what was written for it: taking the pointer away undoes the merge.
alter table contact add column merged_into uuid references contact check (merged_into <> id);
create index contact_merged_into on contact (merged_into) where merged_into is not null;

-- Proved by use (is_proved), else properly declared by a service or the site (is_declared), else typed into a browser.
-- One contact owns an address as proved, else one as declared: what is declared counts for nothing where another has
-- proved it.
alter table contact_address add column is_declared boolean not null default false;
create unique index contact_address_declared on contact_address (type, match_key)
    where is_declared and not is_proved and removed_at is null and type in ('phone', 'email');
create index contact_address_key on contact_address (type, match_key) where removed_at is null;

-- What a service calls the contact; an id that it has verified tells two persons apart.
create table contact_identity (
    service_id uuid not null references service,
    external_id text not null,
    contact_id uuid not null references contact,
    is_verified boolean not null default false,
    created_at timestamptz not null default now(),
    primary key (service_id, external_id)
);
create index contact_identity_contact on contact_identity (contact_id);

-- What services say of a contact, each for itself; `value` is JSON.
create table contact_trait (
    contact_id uuid not null references contact,
    service_id uuid not null references service,
    name text not null,
    value text not null,
    updated_at timestamptz not null default now(),
    primary key (contact_id, service_id, name)
);

-- Services with an identify call of their own for a contact may see its profile (H5).
create table contact_knower (
    contact_id uuid not null references contact,
    service_id uuid not null references service,
    since timestamptz not null default now(),
    primary key (contact_id, service_id)
);
create index contact_knower_service on contact_knower (service_id, contact_id);

-- Consent is given for email and for tracking, too; op_id: the identity operation it came with, whose undo takes it
-- back. A pending one asks the customer and changes nothing.
alter table consent_event drop constraint consent_event_medium_check, drop constraint consent_event_kind_check,
                          drop constraint consent_event_source_check;
alter table consent_event
    add check (medium in ('whatsapp', 'sms', 'email', 'tracking')),
    add check (kind in ('granted', 'revoked', 'stop', 'start', 'marketing_stop', 'marketing_resume', 'pending',
                    'replaced')),
    add check (source in ('customer', 'service', 'operator', 'provider', 'site', 'browser')),
    add column op_id uuid;

-- Tracked links ------------------------------------------------------------------------------------------------------

-- The token itself is kept nowhere: token_hash is its SHA-256. contact_id: whom it identifies; null where it has no
-- recipient, or one who has not agreed. message_id: what it was sent in, with number, channel and author. place: where
-- in the message. claimed_by: the visitor that landed first.
create table tracked_link (
    id uuid primary key,
    token_hash bytea not null unique,
    target text not null,
    service_id uuid references service,
    number_id bigint,
    channel_id uuid,
    conversation_id uuid,
    message_id uuid,
    place text,
    medium text check (medium in ('whatsapp', 'sms', 'email')),
    campaign text,
    contact_id uuid references contact,
    destination_type text,
    destination_value text,
    created_at timestamptz not null,
    disabled_at timestamptz,
    suspect_at timestamptz,
    claimed_by uuid,
    check ((destination_type is null) = (destination_value is null))
);
create index tracked_link_message on tracked_link (message_id) where message_id is not null;
create index tracked_link_campaign on tracked_link (service_id, campaign, coalesce(message_id, id))
    where campaign is not null;
create index tracked_link_contact on tracked_link (contact_id) where contact_id is not null;

-- What processes remember of a link is out of date.
create function tell_link_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('partyline_links', encode(old.token_hash, 'hex'));
    return null;
end $$;
create trigger tracked_link_changed after update of target, disabled_at, contact_id on tracked_link
    for each row execute function tell_link_changed();
create trigger tracked_link_gone after delete on tracked_link for each row execute function tell_link_changed();

-- A message as it is handed to its provider, with tracked links in it; gone when its outcome is known.
create table sent_form (
    message_id uuid primary key references message,
    content text not null,
    created_at timestamptz not null default now()
);
create index sent_form_age on sent_form (created_at);
-- segments: of what is sent; this: of what was asked for.
alter table message add column untracked_segments smallint;

-- Clicks -------------------------------------------------------------------------------------------------------------

-- Every request to a link, with the classifier's verdict. receipt_hash, key_hash: SHA-256 of what the browser got to
-- prove with that the click was its own.
create table click (
    id uuid not null,
    at timestamptz not null,
    link_id uuid not null,
    kind text not null,
    reason text not null,
    counts boolean not null,
    visitor_id uuid,
    receipt_hash bytea,
    key_hash bytea,
    site text,
    opted_out boolean not null default false,
    user_agent text,
    primary key (id, at)
) partition by range (at);
create index click_link on click (link_id, at);
create index click_receipt on click using hash (receipt_hash);
create index click_key on click using hash (key_hash);

-- Where requests came from, as /24 or /48, for days only.
create table click_origin (
    click_id uuid not null,
    at timestamptz not null,
    prefix cidr not null
) partition by range (at);

-- Clicks of people that services have not been told of yet.
create table click_untold (click_id uuid primary key, at timestamptz not null, link_id uuid not null);

-- What is left of the clicks of a link when they are dropped.
create table click_total (
    link_id uuid not null references tracked_link on delete cascade,
    kind text not null,
    reason text not null,
    clicks bigint not null,
    visitors bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    primary key (link_id, kind, reason)
);

-- Visitors and what they did -----------------------------------------------------------------------------------------

-- A cookie of a browser; the id is made of the cookie's hash. is_confirmed: the cookie has come back.
create table visitor (
    id uuid primary key,
    created_at timestamptz not null,
    seen_at timestamptz not null,
    is_confirmed boolean not null default false
);
create index visitor_age on visitor (seen_at);

-- Two cookies of one browser: they showed the same receipt.
create table visitor_twin (
    visitor_id uuid not null,
    twin_id uuid not null,
    primary key (visitor_id, twin_id),
    check (visitor_id <> twin_id)
);
create index visitor_twin_other on visitor_twin (twin_id);

-- What trackers report. visitor_id null: without consent, a session in the page's memory.
create table web_event (
    id uuid not null,
    at timestamptz not null,
    received_at timestamptz not null,
    type text not null,
    visitor_id uuid,
    session text not null,
    site text not null,
    url text not null,
    title text,
    referrer text,
    primary key (id, at)
) partition by range (at);
create index web_event_visitor on web_event (visitor_id, at) where visitor_id is not null;
create index web_event_session on web_event (session, at);

-- Document loads that showed a click's receipt or key, for a day: the click may come later, out of a spool.
create table page_receipt (
    receipt_hash bytea not null,
    visitor_id uuid not null,
    is_key boolean not null,
    is_returning boolean not null,
    kind text not null,
    site text,
    session text not null,
    started_at timestamptz not null,
    received_at timestamptz not null,
    primary key (receipt_hash, visitor_id)
);
create index page_receipt_age on page_receipt (received_at);
create index page_receipt_visitor on page_receipt (visitor_id) where not is_returning;

-- A click and the page it led to, and what rules K said of them.
create table landing (
    click_id uuid not null,
    visitor_id uuid not null,
    link_id uuid not null,
    message_id uuid,
    contact_id uuid,
    session text not null,
    click_at timestamptz not null,
    landed_at timestamptz not null,
    outcome text not null,
    reason text not null,
    op_id uuid,
    primary key (click_id, visitor_id)
);
create index landing_link on landing (link_id);
create index landing_visitor on landing (visitor_id, contact_id);
create index landing_contact on landing (contact_id) where contact_id is not null;

-- Bindings: when a visitor was which contact. period is [start, until).
create table visitor_binding (
    id uuid primary key,
    visitor_id uuid not null,
    contact_id uuid not null references contact,
    period tstzrange not null check (not isempty(period)),
    trust smallint not null check (trust between 1 and 3),
    bound_at timestamptz not null,
    destination_type text,
    destination_value text,
    link_id uuid,
    retracted_at timestamptz,
    exclude using gist (visitor_id with =, period with &&) where (retracted_at is null)
);
create index visitor_binding_visitor on visitor_binding (visitor_id);
create index visitor_binding_contact on visitor_binding (contact_id, bound_at);

-- Handles, keys and nonces that were used, by their SHA-256: each is good once.
create table used_token (hash bytea primary key, expires_at timestamptz not null);
create index used_token_expiry on used_token (expires_at);

-- The ledger of identity operations ----------------------------------------------------------------------------------

-- changes: what was written, in order, as JSON; undoing writes it back, last first.
create table identity_op (
    id uuid primary key,
    position bigint generated always as identity unique,
    kind text not null check (kind in ('click', 'declaration', 'merge', 'erasure')),
    source text not null,
    rule text not null,
    service_id uuid references service,
    visitor_id uuid,
    contact_id uuid,
    changes text not null,
    at timestamptz not null,
    undone_at timestamptz,
    undone_by text
);
create index identity_op_contact on identity_op (contact_id, position);
create index identity_op_visitor on identity_op (visitor_id, position);

-- What an operation writes or rests on, so that what stands against undoing it is found.
create table identity_op_thing (
    position bigint not null references identity_op (position),
    thing text not null,
    is_written boolean not null,
    primary key (thing, position)
);
create index identity_op_thing_position on identity_op_thing (position);

-- Over a limit: a flagged link is suspect, a flagged contact or visitor is for people to look at.
create table identity_flag (
    op_id uuid not null references identity_op,
    subject text not null check (subject in ('contact', 'link', 'visitor')),
    subject_id uuid not null,
    reason text not null,
    primary key (op_id, subject, subject_id)
);
create index identity_flag_subject on identity_flag (subject, subject_id);

-- Which operations suggested a merge; a candidate without any left, and not the hub's own (own_is_proper null), is none.
-- The reason is the hub's own, else that of the first operation left; proper: by any of them. Settled: the two are one
-- profile.
alter table merge_candidate add column own_is_proper boolean default true,
                            add column is_proper boolean not null default true;
create table merge_candidate_op (
    candidate_id uuid not null references merge_candidate on delete cascade,
    op_id uuid not null references identity_op,
    reason text not null,
    is_proper boolean not null,
    primary key (candidate_id, op_id)
);
create index merge_candidate_op_op on merge_candidate_op (op_id);
create index merge_candidate_other on merge_candidate (other_contact_id) where settled_at is null;

-- Partitions ---------------------------------------------------------------------------------------------------------

-- As before, with the tables of clicks and visits among those that have a partition a day.
create or replace function make_partitions(smallest bigint, days integer, biggest bigint default 1000000000) returns void
language plpgsql set lock_timeout = '1s' set timezone = 'UTC' as $$
declare
    last bigint;
    top_low bigint;
    top_high bigint;
    size bigint;
    day date;
    daily text;
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
    foreach daily in array array['attempt', 'click', 'click_origin', 'web_event'] loop
        for day in select generate_series(current_date - 1, current_date + days, interval '1 day')::date loop
            perform make_partition(daily::regclass, daily || '_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00',
                                   day + 1 || ' 00:00:00+00');
        end loop;
    end loop;
end $$;
select make_partitions(1000000, 7);

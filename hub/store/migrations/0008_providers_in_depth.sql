-- Both providers in depth: who holds a conversation, what came late or from before, files of customers, the health of
-- senders.

-- What reads all messages and addresses comes first, what nobody gets past last: the hub goes on meanwhile.

-- Which messages have a file; one file of a customer is in as many messages as their number has channels.
create table message_media (
    message_id uuid not null,
    media_id uuid not null,
    primary key (message_id, media_id)
);
create index message_media_media on message_media (media_id);
insert into message_media (message_id, media_id)
select distinct w.message_id, d.id
from (
    select m.id as message_id, (regexp_matches(m.content, 'med_[0-9a-f]{32}', 'g'))[1] as word
    from message m where m.direction = 'outbound' and strpos(m.content, 'med_') > 0) w
join media d on d.id = substr(w.word, 5)::uuid;

-- Ivory Coast and Benin put two digits before every number there was (2021, 2024): now both forms have one key, that of
-- today's. Consent given or taken back under the old one holds for it. Where somebody else was made of the other form,
-- that pair may be one person, and the old form's contact keeps its key, which nobody is found by any more.
create function pg_temp.key_of_today(key text) returns text language sql immutable as $$
    select case
        when key ~ '^\+225(0[1-9]|4[0-9]|5[14-9]|6[015-79]|[78][4-9])[0-9]{6}$'
            then '+225' || case when substr(key, 6, 1) < '4' then '01' when substr(key, 6, 1) < '7' then '05' else '07' end
                 || substr(key, 5)
        when key ~ '^\+229[24-69][0-9]{7}$' then '+22901' || substr(key, 5)
    end
$$;
update consent_event set address_key = pg_temp.key_of_today(address_key)
where address_type = 'phone' and pg_temp.key_of_today(address_key) is not null;
insert into merge_candidate (id, contact_id, other_contact_id, reason)
select gen_random_uuid(), p.one, p.other, 'addresses_of_two_contacts'
from (select distinct least(a.contact_id, b.contact_id) as one, greatest(a.contact_id, b.contact_id) as other
from contact_address a
join contact_address b on b.type = 'phone' and b.match_key = pg_temp.key_of_today(a.match_key)
where a.type = 'phone' and a.is_proved and a.removed_at is null and b.is_proved and b.removed_at is null
  and a.contact_id <> b.contact_id) p
on conflict do nothing;
update contact_address a set match_key = pg_temp.key_of_today(a.match_key)
where a.type = 'phone' and pg_temp.key_of_today(a.match_key) is not null and not exists (
    select from contact_address b
    where b.type = 'phone' and b.match_key = pg_temp.key_of_today(a.match_key) and b.removed_at is null
      and b.is_proved = a.is_proved and (a.is_proved or a.is_declared and b.is_declared));

-- How far a provider's list of messages has been compared with ours, from when on it ever is, and how the last round
-- went.
create table reconciliation (
    provider text primary key,
    begun_at timestamptz not null,
    until timestamptz not null,
    tried_at timestamptz,
    outcome text,
    detail text,
    listed integer,
    taken integer
);

-- Files ---------------------------------------------------------------------------------------------------------------

-- Files of customers have no service; until they are fetched nobody knows their size and hash.
alter table media
    alter column service_id drop not null,
    alter column size drop not null,
    alter column sha256 drop not null,
    add column state text not null default 'kept' check (state in ('pending', 'kept', 'unavailable', 'erased', 'expired')),
    add column error text,
    add column kept_at timestamptz,
    add check (state <> 'kept' or (size is not null and sha256 is not null));
create index media_sha256 on media using hash (sha256);
create index media_age on media (created_at);

-- Where a file of a customer is fetched; next_at is null when there is nothing to do (any more), and the time at which
-- its lease ends (claimed_until) while somebody fetches it.
create table media_fetch (
    media_id uuid primary key references media,
    provider text not null,
    sender_id bigint not null references sender,
    provider_id text,
    url text,
    attempts integer not null default 0,
    next_at timestamptz,
    claimed_until timestamptz,
    check (provider_id is not null or url is not null)
);
create index media_fetch_due on media_fetch (next_at) where next_at is not null;

alter table message_media add foreign key (media_id) references media;

-- Sending -------------------------------------------------------------------------------------------------------------

-- How many of the attempts came to nothing because the provider wanted no more just then: they do not count as failed.
alter table outbox add column throttled integer not null default 0;

-- Senders -------------------------------------------------------------------------------------------------------------

-- The account that Meta's webhooks name beside the sender: notices about an account find their senders by it.
alter table sender add column seen_account text;
-- Of what processes remember of senders, these alone: an account that is seen, or a template list, changes no route.
drop trigger roster_changed on sender;
create trigger roster_changed after insert or delete or update of number_id, medium, provider, external_id, is_active
    on sender for each statement execute function raise_roster_version();

-- problems: JSON, code -> {detail, since, source, seen}; facts: JSON, as quality, messaging_limit; heard: JSON, topic of
-- the provider's notices -> its time of the last one.
create table sender_health (
    sender_id bigint primary key references sender,
    state text not null check (state in ('ok', 'degraded', 'down')),
    problems text not null default '{}',
    facts text not null default '{}',
    heard text not null default '{}',
    changed_at timestamptz not null default now(),
    checked_at timestamptz
);

-- What came and went by the hour: what is usual, so that silence is noticed. inbound is null where the hub was not there.
create table sender_traffic (
    sender_id bigint not null references sender,
    hour timestamptz not null,
    inbound integer,
    outbound integer not null,
    statuses integer not null,
    primary key (sender_id, hour)
);

-- Customers -----------------------------------------------------------------------------------------------------------

-- Why an address is not theirs any more: 'changed' where the provider told of the new one.
alter table contact_address add column removed_reason text;
create index contact_address_changed on contact_address (type, match_key) where removed_reason = 'changed';
create index contact_address_former on contact_address (contact_id) where removed_reason = 'changed';

-- Conversations -------------------------------------------------------------------------------------------------------

-- held_by: Meta's own agent holds the conversation since held_since; control_at is the provider's time of the last that
-- was heard of it, older news change nothing. sends_to: the form of the customer's number that was seen to work for
-- sending, where it is not the one they are reported with (`reply_to_value`).
alter table conversation
    add column held_by text check (held_by = 'external'),
    add column held_since timestamptz,
    add column control_at timestamptz,
    add column sends_to text,
    add check ((held_by is null) = (held_since is null));

-- What waits until a conversation is given back: it is due at no time, until then.
create index schedule_held on schedule (conversation_id) where due_at = 'infinity';

-- reconciled: fetched from the provider's list, its webhook never came. history: from before the number was connected,
-- numbered downwards from 0 and told in no event.
alter table message
    add column reconciled boolean not null default false,
    add column history boolean not null default false;

-- The life of a message: what the rules said when it was accepted, what its provider was asked and answered. And finding
-- people by their names.

-- Building these keeps new names waiting, so they come first and are short: one entry a word.
create index contact_words on contact using gin (to_tsvector('simple', coalesce(name, '')));
create index service_words on service using gin (to_tsvector('simple', name));

-- judged: JSON, a list of {rule, outcome, facts}; without anything of the customer's or the message's content, so that
-- an erasure leaves it. No foreign keys: written in the transaction that writes or locks the message.
create table message_ruling (
    message_id uuid primary key,
    at timestamptz not null,
    judged text not null
);
create index message_ruling_age on message_ruling (at);

-- One row for each time that a message was taken in hand for its provider. requests: how many it was sent, none where
-- the message could not be made ready; began_at is unique for a message, so that a record that is repeated is one.
-- took_ms null: the process that called ended before it knew.
create table provider_call (
    message_id uuid not null,
    began_at timestamptz not null,
    attempt integer not null,
    took_ms integer,
    requests integer not null,
    outcome text not null check (outcome in ('taken', 'refused', 'not_taken', 'unknown')),
    code text,
    provider_code text,
    primary key (message_id, began_at)
);
create index provider_call_age on provider_call (began_at);

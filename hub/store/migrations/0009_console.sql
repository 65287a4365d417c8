-- Sessions of the console. A session is found by the hash of its cookie's token; it lasts as long as the key that it
-- was opened with, and no longer than its time.

create table console_session (
    token_hash bytea primary key,
    key_id uuid references api_key (id) on delete cascade,
    -- Of the operator's key only what the token, which is not kept here, can be compared with it by.
    operator_proof bytea,
    csrf text not null,
    notice text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint console_session_of_one check ((key_id is null) <> (operator_proof is null))
);
create index console_session_expiry on console_session (expires_at);
create index console_session_key on console_session (key_id) where key_id is not null;

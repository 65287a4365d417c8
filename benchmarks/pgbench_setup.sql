-- What `take_messages` inserts for one webhook, as one function with no client work at all: the key that stops
-- duplicates, the conversation's next number, the message, the event under its shard's lock.
insert into number (e164) values ('+15550000001');
insert into channel (id, number_id, kind)
select '00000000-0000-7000-9000-000000000001', id, 'shared' from number;
insert into contact (id, name)
select ('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Customer ' || n from generate_series(1, 1000) n;
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, number.id,
       '00000000-0000-7000-9000-000000000001', 'whatsapp',
       ('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, 'phone', '49151' || lpad(n::text, 8, '0')
from number, generate_series(1, 1000) n;

create function take_one(customer integer, seed bigint, content text, data text) returns bigint language plpgsql as $$
declare
    place constant uuid := ('00000000-0000-7000-8000-' || lpad(to_hex(customer), 12, '0'))::uuid;
    its_shard constant smallint := customer & 63;
    message_id uuid;
    prev bigint;
    id bigint;
    talk record;
begin
    insert into inbound_key (key) values (decode(md5(seed::text), 'hex')) on conflict do nothing;
    if not found then
        return 0;
    end if;
    update conversation c set last_sequence = c.last_sequence + 1, last_customer_at = greatest(c.last_customer_at, now())
    where c.id = place returning c.last_sequence, c.last_customer_at, c.number_id, c.channel_id into talk;
    perform pg_advisory_xact_lock(7001, its_shard);
    prev := coalesce((select e.id from event e where e.shard = its_shard order by e.id desc limit 1), 0);
    id := nextval('event_id_seq');
    message_id := ('01a20070-0000-7000-8000-' || lpad(to_hex(id), 12, '0'))::uuid;
    insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                         provider, created_at, provider_id, provider_time, unrouted)
    values (message_id, talk.number_id, talk.channel_id, place, talk.last_sequence, 'inbound', 'whatsapp', 'text',
            'customer', content, 'meta', now(), 'wamid.HBgNNDkxNTEyMzQ1Njc4FQIAEhgUM0Ew' || seed, now(), false);
    insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence,
                       reply_window_expires_at, message_id, data, created_at)
    values (id, its_shard, prev, 'message.received', talk.number_id, talk.channel_id, place, talk.last_sequence,
            talk.last_customer_at + interval '24 hours', message_id, data, now());
    return id;
end $$;

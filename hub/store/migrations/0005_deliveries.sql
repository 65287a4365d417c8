-- What was attempted, by time: for a page of a subscription's deliveries, whatever the number of all of them.

-- Only attempts that failed are rows, so this costs accepted deliveries nothing.
create index attempt_at on attempt (subscription_id, at);

-- One row per flush.
create index delivered_at on delivered (at);

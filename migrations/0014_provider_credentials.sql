-- Keys for outside services, one a provider. Only sealed: AES-256-GCM under a key that is derived
-- from the root secret, which is not in the database. Nothing here tells the key or a part of it.
create table knowledge.provider_credential (
    provider   text        not null,
    kek_id     text        not null,
    nonce      bytea       not null,
    ciphertext bytea       not null,
    revision   bigint      not null,
    event_id   uuid        not null,
    set_time   timestamptz not null,
    constraint provider_credential_pk primary key (provider),
    constraint provider_credential_nonce_size check (octet_length(nonce) = 12),
    constraint provider_credential_ciphertext_size check (octet_length(ciphertext) <= 1024)
);

grant select, insert, update, delete on knowledge.provider_credential to knowledge_server;

#!/bin/bash
# The login role of the server; the migrations grant it its rights. Runs once, on an empty data folder.
set -euo pipefail

psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --no-psqlrc <<'SQL'
\set password `cat /run/secrets/server_password`
create role knowledge_server login password :'password';
SQL

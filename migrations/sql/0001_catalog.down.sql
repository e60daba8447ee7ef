DROP TYPE embstore.moved;

DROP TYPE embstore.neighbor;

DROP SCHEMA emb CASCADE;

DROP TABLE embstore.alias_history;

DROP TABLE embstore.aliases;

DROP TABLE embstore.versions;

DROP TABLE embstore.version_numbers;

DROP TABLE embstore.tables;

REVOKE ALL ON FUNCTION embstore.release(text[], text, boolean, jsonb, jsonb), embstore.pin(text, text, text), embstore.unpin(text, text) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_reader') THEN
        GRANT SELECT ON embstore.releases, embstore.gates, embstore.pins, embstore.alignments, embstore.appends TO embstore_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_promoter') THEN
        GRANT SELECT ON embstore.releases, embstore.gates, embstore.pins, embstore.alignments, embstore.appends TO embstore_promoter;
        GRANT INSERT, DELETE ON embstore.gates TO embstore_promoter;
        GRANT EXECUTE ON FUNCTION embstore.release(text[], text, boolean, jsonb, jsonb), embstore.pin(text, text, text), embstore.unpin(text, text) TO embstore_promoter;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_loader') THEN
        GRANT SELECT ON embstore.releases, embstore.gates, embstore.pins, embstore.alignments, embstore.appends TO embstore_loader;
        GRANT INSERT, DELETE ON embstore.gates, embstore.pins, embstore.alignments, embstore.appends TO embstore_loader;
        GRANT EXECUTE ON FUNCTION embstore.release(text[], text, boolean, jsonb, jsonb), embstore.pin(text, text, text), embstore.unpin(text, text) TO embstore_loader;
    END IF;
END
$$

DO $$
BEGIN
    -- A cluster holds roles for all of its databases, so they may be there already; a managed
    -- Postgres may not let us create any, and the store works without them.
    IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        RAISE NOTICE 'this user may not create roles: embstore_reader, embstore_promoter and embstore_loader are used only if they exist';
    ELSE
        BEGIN
            CREATE ROLE embstore_reader NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        BEGIN
            CREATE ROLE embstore_promoter NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
        BEGIN
            CREATE ROLE embstore_loader NOLOGIN;
            -- Since Postgres 16 who makes a role may grant it, and has to, to act as it.
            EXECUTE format('GRANT embstore_loader TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    BEGIN
        -- A drop must see whose snapshot may still need a version.
        GRANT pg_read_all_stats TO embstore_loader;
    EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
        RAISE NOTICE 'embstore_loader does not see other sessions: ask a superuser to GRANT pg_read_all_stats TO embstore_loader';
    END;
    BEGIN
        GRANT USAGE ON SCHEMA @vector@ TO embstore_reader, embstore_promoter, embstore_loader;
    EXCEPTION WHEN insufficient_privilege OR undefined_object THEN NULL;
    END;
    REVOKE ALL ON FUNCTION embstore.promote(text, text, text), embstore.rollback(text, text) FROM PUBLIC;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_reader') THEN
        GRANT USAGE ON SCHEMA embstore, emb TO embstore_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA embstore TO embstore_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_promoter') THEN
        GRANT USAGE ON SCHEMA embstore, emb TO embstore_promoter;
        GRANT SELECT ON ALL TABLES IN SCHEMA embstore TO embstore_promoter;
        GRANT EXECUTE ON FUNCTION embstore.promote(text, text, text), embstore.rollback(text, text) TO embstore_promoter;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'embstore_loader') THEN
        GRANT USAGE, CREATE ON SCHEMA emb TO embstore_loader;
        GRANT USAGE ON SCHEMA embstore TO embstore_loader;
        GRANT SELECT ON ALL TABLES IN SCHEMA embstore TO embstore_loader;
        GRANT INSERT, UPDATE, DELETE ON embstore.tables, embstore.versions, embstore.version_numbers TO embstore_loader;
        GRANT DELETE ON embstore.aliases TO embstore_loader;
        GRANT EXECUTE ON FUNCTION embstore.promote(text, text, text), embstore.rollback(text, text) TO embstore_loader;
    END IF;
END
$$

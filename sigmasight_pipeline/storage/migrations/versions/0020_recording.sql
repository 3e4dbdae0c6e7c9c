-- Changes of inputs of computed sessions, recorded by the database itself where it was not the pipeline's writers.
--
-- Prices, actions, yields and quotes: only statements of people, who have not taken a writer's lock (storage.partitions);
-- the pipeline replaces whole sessions and compares them itself (storage.changes). Positions, marks and flows:
-- everybody's, because the pipeline touches only rows that differ.
--
-- The triggers are deferred: what they record carries the time of the commit, so that whatever was computed while the
-- transaction was open counts as older. Their conditions are judged row by row, and cost a writer nothing.

CREATE FUNCTION sigmasight.differing_figures(before jsonb, after jsonb, without text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(coalesce(after, before)) AS keys(k)
    WHERE before -> k IS DISTINCT FROM after -> k AND k <> ALL (without)
$$;

CREATE FUNCTION sigmasight.told(before jsonb, after jsonb, figures text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = '' AS $$
    SELECT CASE
        WHEN before IS NULL OR after IS NULL
        THEN string_agg(format('%s %s', k, coalesce(after, before) ->> k), ', ' ORDER BY k)
            FILTER (WHERE coalesce(after, before) ->> k IS NOT NULL)
        ELSE string_agg(
            format('%s %s -> %s', k, coalesce(before ->> k, 'none'), coalesce(after ->> k, 'none')), ', ' ORDER BY k)
        END
    FROM unnest(figures) AS keys(k)
$$;

CREATE FUNCTION sigmasight.record_market_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    figures text[] := sigmasight.differing_figures(before, after, '{source,fetched_at}');
    first_session date := least((before ->> TG_ARGV[0])::date, (after ->> TG_ARGV[0])::date);
    of_symbol text := coalesce(after, before) ->> 'symbol';
BEGIN
    IF figures IS NULL OR NOT (
        EXISTS (SELECT FROM sigmasight.portfolio_snapshots s WHERE s.session_date >= first_session)
        OR EXISTS (SELECT FROM sigmasight.daily_returns r WHERE r.session_date >= first_session)
    ) THEN
        RETURN NULL;
    END IF;
    INSERT INTO sigmasight.input_changes
        (table_name, session_date, symbol, kind, detail, by_hand, changed_at)
    VALUES (
        TG_TABLE_NAME,
        first_session,
        CASE WHEN before ->> 'symbol' IS DISTINCT FROM after ->> 'symbol' AND TG_OP = 'UPDATE' THEN NULL
        ELSE of_symbol END,
        CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'DELETE' THEN 'removed' ELSE 'revised' END,
        sigmasight.told(before, after, figures),
        true,
        clock_timestamp()
    );
    RETURN NULL;
END
$$;

CREATE FUNCTION sigmasight.record_book_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    given jsonb := coalesce(after, before);
    figures text[] := sigmasight.differing_figures(
        before, after, '{notes,investment_subtype,source,source_file,source_line,note}');
    first_session date;
    owner bigint := given ->> 'portfolio_id';
    of_symbol text := given ->> 'symbol';
    inception date;
BEGIN
    IF TG_TABLE_NAME = 'positions' THEN
        IF TG_OP = 'UPDATE' AND figures <@ '{exit_date,exit_price}' THEN
            first_session := least((before ->> 'exit_date')::date, (after ->> 'exit_date')::date);
        ELSE
            first_session := least((before ->> 'entry_date')::date, (after ->> 'entry_date')::date);
        END IF;
    ELSE
        first_session := least((before ->> 'session_date')::date, (after ->> 'session_date')::date);
    END IF;
    IF TG_TABLE_NAME = 'position_marks' THEN
        SELECT p.portfolio_id, p.symbol INTO owner, of_symbol
        FROM sigmasight.positions p WHERE p.position_id = (given ->> 'position_id')::bigint;
    END IF;
    SELECT p.inception_date INTO inception FROM sigmasight.portfolios p WHERE p.portfolio_id = owner;
    -- flows on or before inception are part of the initial equity; of what is gone, the owner's own end is recorded
    IF figures IS NULL OR inception IS NULL OR (TG_TABLE_NAME = 'portfolio_cash_flows' AND greatest(
        (before ->> 'session_date')::date, (after ->> 'session_date')::date) <= inception)
    THEN
        RETURN NULL;
    END IF;
    first_session := greatest(first_session, inception);
    IF NOT EXISTS (
        SELECT FROM sigmasight.portfolio_snapshots s WHERE s.portfolio_id = owner AND s.session_date >= first_session
    ) THEN
        RETURN NULL;
    END IF;
    INSERT INTO sigmasight.input_changes
        (table_name, session_date, portfolio_id, symbol, kind, detail, by_hand, changed_at)
    VALUES (
        TG_TABLE_NAME,
        first_session,
        -- one that changed hands concerns two portfolios: all of them are asked to be looked at
        CASE WHEN TG_OP = 'UPDATE' AND before ->> 'portfolio_id' IS DISTINCT FROM after ->> 'portfolio_id' THEN NULL
        ELSE owner END,
        of_symbol,
        CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'DELETE' THEN 'removed' ELSE 'revised' END,
        sigmasight.told(before, after, figures),
        current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline',
        clock_timestamp()
    );
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.daily_prices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.daily_prices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.corporate_actions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('ex_date');

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.corporate_actions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('ex_date');

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.treasury_yields
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.treasury_yields
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.option_prices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.option_prices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline')
    EXECUTE FUNCTION sigmasight.record_market_change('session_date');

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.positions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (true)
    EXECUTE FUNCTION sigmasight.record_book_change();

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.positions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND true)
    EXECUTE FUNCTION sigmasight.record_book_change();

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.position_marks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (true)
    EXECUTE FUNCTION sigmasight.record_book_change();

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.position_marks
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND true)
    EXECUTE FUNCTION sigmasight.record_book_change();

CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.portfolio_cash_flows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (true)
    EXECUTE FUNCTION sigmasight.record_book_change();

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.portfolio_cash_flows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW AND true)
    EXECUTE FUNCTION sigmasight.record_book_change();

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

-- The life of a book. A portfolio is open while no closing session is stated, so active follows closing_date whichever
-- of both is written: closed by hand (SET active = false), its closing session is that of its newest snapshot.

CREATE FUNCTION sigmasight.keep_portfolio_closing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    newest date := (SELECT max(t.session_date) FROM sigmasight.trading_sessions t);
BEGIN
    IF NEW.closing_date IS NULL AND NOT NEW.active AND (TG_OP = 'INSERT' OR OLD.active) THEN
        NEW.closing_date := coalesce(
            (SELECT max(s.session_date) FROM sigmasight.portfolio_snapshots s
             WHERE s.portfolio_id = NEW.portfolio_id),
            NEW.inception_date);
    ELSIF TG_OP = 'UPDATE' AND NEW.active AND NOT OLD.active AND NEW.closing_date IS NOT DISTINCT FROM OLD.closing_date
    THEN
        NEW.closing_date := NULL;
    END IF;
    IF NEW.closing_date < NEW.inception_date OR NEW.closing_date > newest THEN
        RAISE EXCEPTION 'closing_date % of portfolio % is no session from its inception, %, to %',
            NEW.closing_date, NEW.code, NEW.inception_date, newest USING ERRCODE = 'check_violation';
    END IF;
    NEW.active := NEW.closing_date IS NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_closing BEFORE INSERT OR UPDATE OF active, closing_date ON sigmasight.portfolios
    FOR EACH ROW EXECUTE FUNCTION sigmasight.keep_portfolio_closing();

CREATE FUNCTION sigmasight.record_change(
    of_table text, first_session date, owner bigint, of_symbol text, what text, words text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    INSERT INTO sigmasight.input_changes
        (table_name, session_date, portfolio_id, symbol, kind, detail, by_hand, changed_at)
    VALUES (of_table, first_session, owner, of_symbol, what, words,
            current_setting('sigmasight.writer', true) IS DISTINCT FROM 'pipeline', clock_timestamp())
$$;

-- nothing computed depends on what a book is called; on its closing session everything after it does
CREATE FUNCTION sigmasight.record_portfolio_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
    called text[] := ARRAY(SELECT k FROM unnest('{code,description,name}'::text[]) AS keys(k)
                           WHERE before -> k IS DISTINCT FROM after -> k);
BEGIN
    IF NOT EXISTS (SELECT FROM sigmasight.portfolios p WHERE p.portfolio_id = NEW.portfolio_id) THEN
        RETURN NULL;  -- gone by now
    END IF;
    IF OLD.closing_date IS DISTINCT FROM NEW.closing_date THEN
        PERFORM sigmasight.record_change('portfolios',
            least(coalesce(OLD.closing_date, 'infinity'), coalesce(NEW.closing_date, 'infinity')) + 1,
            NEW.portfolio_id, NULL, 'revised', sigmasight.told(before, after, '{closing_date}'));
    END IF;
    IF called <> '{}' THEN
        PERFORM sigmasight.record_change('portfolios', (clock_timestamp() AT TIME ZONE 'UTC')::date,
            NEW.portfolio_id, NULL, 'described', sigmasight.told(before, after, called));
    END IF;
    RETURN NULL;
END
$$;

-- groups of exposures and labels of clusters are named by tags; kind and colour are for those who look at them
CREATE FUNCTION sigmasight.record_tag_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before jsonb := to_jsonb(OLD);
    after jsonb := to_jsonb(NEW);
    shown text[] := ARRAY(SELECT k FROM unnest('{colour,kind}'::text[]) AS keys(k)
                          WHERE before -> k IS DISTINCT FROM after -> k);
BEGIN
    IF OLD.name <> NEW.name THEN
        PERFORM sigmasight.record_change('tags', owned.first_session, owned.portfolio_id, NULL, 'revised',
            sigmasight.told(before, after, '{name}'))
        FROM (
            SELECT p.portfolio_id, min(greatest(q.entry_date, p.inception_date)) AS first_session
            FROM sigmasight.position_tags x JOIN sigmasight.positions q USING (position_id)
            JOIN sigmasight.portfolios p USING (portfolio_id) WHERE x.tag_id = NEW.tag_id GROUP BY 1
        ) owned
        WHERE EXISTS (SELECT FROM sigmasight.portfolio_snapshots s
                      WHERE s.portfolio_id = owned.portfolio_id AND s.session_date >= owned.first_session);
    END IF;
    IF shown <> '{}' THEN
        PERFORM sigmasight.record_change('tags', (clock_timestamp() AT TIME ZONE 'UTC')::date, NULL, NULL,
            'described', format('%s: %s', NEW.name, sigmasight.told(before, after, shown)));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION sigmasight.record_position_tag_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    of_position bigint := CASE WHEN TG_OP = 'INSERT' THEN NEW.position_id ELSE OLD.position_id END;
    tag text := (SELECT t.name FROM sigmasight.tags t
                 WHERE t.tag_id = CASE WHEN TG_OP = 'INSERT' THEN NEW.tag_id ELSE OLD.tag_id END);
BEGIN
    -- a position that is gone, or came or was changed in this transaction, is recorded itself, from its first session
    PERFORM sigmasight.record_change('position_tags', owned.first_session, owned.portfolio_id, owned.symbol,
        CASE TG_OP WHEN 'INSERT' THEN 'added' ELSE 'removed' END, format('tag %s', coalesce(tag, 'that is gone')))
    FROM (
        SELECT p.portfolio_id, q.symbol, greatest(q.entry_date, p.inception_date) AS first_session
        FROM sigmasight.positions q JOIN sigmasight.portfolios p USING (portfolio_id)
        WHERE q.position_id = of_position
    ) owned
    WHERE EXISTS (SELECT FROM sigmasight.portfolio_snapshots s
                  WHERE s.portfolio_id = owned.portfolio_id AND s.session_date >= owned.first_session)
    AND NOT EXISTS (SELECT FROM sigmasight.input_changes c
                    WHERE c.table_name = 'positions' AND c.portfolio_id = owned.portfolio_id
                    AND c.symbol = owned.symbol AND c.session_date <= owned.first_session
                    AND c.changed_at >= pg_catalog.now() AND c.xmin = pg_catalog.pg_current_xact_id()::xid);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.portfolios
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (
        (OLD.code, OLD.name, OLD.description, OLD.closing_date)
        IS DISTINCT FROM (NEW.code, NEW.name, NEW.description, NEW.closing_date))
    EXECUTE FUNCTION sigmasight.record_portfolio_change();
CREATE CONSTRAINT TRIGGER record_revised AFTER UPDATE ON sigmasight.tags
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW)
    EXECUTE FUNCTION sigmasight.record_tag_change();
CREATE CONSTRAINT TRIGGER record_added_or_removed AFTER INSERT OR DELETE ON sigmasight.position_tags
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION sigmasight.record_position_tag_change();

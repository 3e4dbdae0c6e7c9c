-- Correlations by ordered pair: stored as one lower triangle, diagonal included, per session and portfolio.
SELECT
    c.session_date,
    c.portfolio_id,
    p.symbol_1,
    p.symbol_2,
    p.correlation,
    p.p_value,
    p.n_obs,
    p.status,
    c.computed_at,
    c.code_version,
    c.run_id
FROM sigmasight.pairwise_correlations AS c
CROSS JOIN LATERAL (
    SELECT
        a.symbol AS symbol_1,
        b.symbol AS symbol_2,
        u.correlation,
        u.p_value,
        u.n_obs,
        u.status
    FROM unnest(c.symbols) WITH ORDINALITY AS a (symbol, place)
    CROSS JOIN unnest(c.symbols) WITH ORDINALITY AS b (symbol, place)
    JOIN unnest(c.correlation, c.p_value, c.n_obs, c.status) WITH ORDINALITY
        AS u (correlation, p_value, n_obs, status, number)
        ON u.number = greatest(a.place, b.place) * (greatest(a.place, b.place) - 1) / 2 + least(a.place, b.place)
) AS p

-- Factor exposure of positions: delta-adjusted exposure x the beta of the symbol whose returns they take, rounded
-- half-even to the cent (round() of a double is). PRIVATE positions are outside the model.
SELECT
    v.session_date,
    v.position_id,
    f.factor,
    v.portfolio_id,
    CASE WHEN q.quality NOT IN ('private', 'factor_without_data') THEN b.beta[m.number] END AS beta,
    CASE
        WHEN q.quality = 'private' THEN 0.00
        WHEN q.quality IN ('ok', 'constant')
            THEN round(g.delta_adjusted_exposure::double precision * b.beta[m.number] * 100)::bigint * 0.01
    END::numeric(20, 2) AS exposure_dollar,
    q.quality,
    coalesce(b.computed_at, v.computed_at) AS computed_at,
    coalesce(b.code_version, v.code_version) AS code_version,
    coalesce(b.run_id, v.run_id) AS run_id
FROM sigmasight.position_values AS v
JOIN sigmasight.positions AS p ON p.position_id = v.position_id
-- rows only where the exposures of the portfolio are computed, and not removed for their age
JOIN sigmasight.portfolio_factor_exposures AS e ON e.session_date = v.session_date AND e.portfolio_id = v.portfolio_id
CROSS JOIN sigmasight.factor_definitions AS f
LEFT JOIN sigmasight.array_members AS m ON m.dimension = 'factor' AND m.member = f.factor
LEFT JOIN sigmasight.position_greeks AS g ON g.session_date = v.session_date AND g.position_id = v.position_id
LEFT JOIN sigmasight.symbol_factor_betas AS b ON b.session_date = v.session_date AND b.symbol = g.risk_symbol
CROSS JOIN LATERAL (
    SELECT
        CASE
            WHEN p.investment_class = 'PRIVATE' THEN 'private'
            WHEN f.kind = 'characteristic' OR b.quality[m.number] = 'factor_without_data' THEN 'factor_without_data'
            WHEN b.quality[m.number] IN ('ok', 'constant') AND g.delta_adjusted_exposure IS NULL
                THEN 'no_delta_adjusted_exposure'
            WHEN b.quality[m.number] IS NOT NULL THEN b.quality[m.number]
            -- whether a factor has data is the same for every symbol of a session
            WHEN (
                SELECT x.quality[m.number] <> 'factor_without_data'
                FROM sigmasight.symbol_factor_betas AS x
                WHERE x.session_date = v.session_date AND x.quality[m.number] IS NOT NULL
                ORDER BY x.symbol
                LIMIT 1
            ) THEN 'no_beta'
            ELSE 'factor_without_data'
        END AS quality
) AS q
WHERE f.active AND v.price_source NOT IN ('exit', 'settlement', 'settlement_unpriced')

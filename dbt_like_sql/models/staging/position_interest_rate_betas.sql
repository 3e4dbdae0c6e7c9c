-- Interest-rate betas of positions: the row of the active factor of kind rate of the symbol whose returns they take.
SELECT
    v.session_date,
    v.position_id,
    v.portfolio_id,
    CASE WHEN p.investment_class = 'PRIVATE' THEN p.symbol ELSE g.risk_symbol END AS symbol,
    CASE WHEN q.is_known THEN b.beta[f.number] END AS ir_beta,
    CASE WHEN q.is_known THEN b.std_error[f.number] END AS std_error,
    CASE WHEN q.is_known THEN b.r_squared[f.number] END AS r_squared,
    coalesce(CASE WHEN q.is_known THEN b.n_obs[f.number] END, 0) AS n_obs,
    q.quality,
    coalesce(b.computed_at, v.computed_at) AS computed_at,
    coalesce(b.code_version, v.code_version) AS code_version,
    coalesce(b.run_id, v.run_id) AS run_id
FROM sigmasight.position_values AS v
JOIN sigmasight.positions AS p ON p.position_id = v.position_id
-- rows only where the exposures of the portfolio are computed, and not removed for their age
JOIN sigmasight.portfolio_factor_exposures AS e ON e.session_date = v.session_date AND e.portfolio_id = v.portfolio_id
LEFT JOIN sigmasight.position_greeks AS g ON g.session_date = v.session_date AND g.position_id = v.position_id
LEFT JOIN sigmasight.symbol_factor_betas AS b ON b.session_date = v.session_date AND b.symbol = g.risk_symbol
LEFT JOIN (
    SELECT m.number
    FROM sigmasight.factor_definitions AS d
    JOIN sigmasight.array_members AS m ON m.dimension = 'factor' AND m.member = d.factor
    WHERE d.active AND d.kind = 'rate'
    ORDER BY d.display_order, d.factor
    LIMIT 1
) AS f ON TRUE
CROSS JOIN LATERAL (
    SELECT
        p.investment_class <> 'PRIVATE' AND b.quality[f.number] <> 'factor_without_data' AS is_known,
        CASE
            WHEN p.investment_class = 'PRIVATE' THEN 'private'
            WHEN b.quality[f.number] IS NOT NULL THEN b.quality[f.number]
            WHEN (
                SELECT x.quality[f.number] <> 'factor_without_data'
                FROM sigmasight.symbol_factor_betas AS x
                WHERE x.session_date = v.session_date AND x.quality[f.number] IS NOT NULL
                ORDER BY x.symbol
                LIMIT 1
            ) THEN 'no_beta'
            ELSE 'factor_without_data'
        END AS quality
) AS q
WHERE v.price_source NOT IN ('exit', 'settlement', 'settlement_unpriced')

-- P&L by component: stored as one row per session and position, one column per component.
SELECT
    a.session_date,
    a.position_id,
    c.component,
    a.portfolio_id,
    c.pnl::numeric(20, 2) AS pnl,
    a.computed_at,
    a.code_version,
    a.run_id
FROM sigmasight.pnl_attribution AS a
CROSS JOIN LATERAL (
    VALUES
        ('trade', a.trade),
        ('market', a.market),
        ('other_factors', a.other_factors),
        ('dividend', a.dividend),
        ('specific', a.specific),
        ('delta', a.delta),
        ('gamma', a.gamma),
        ('theta', a.theta),
        ('vega', a.vega),
        ('rho', a.rho),
        ('unexplained', a.unexplained),
        ('mark', a.mark)
) AS c (component, pnl)
WHERE c.pnl IS NOT NULL

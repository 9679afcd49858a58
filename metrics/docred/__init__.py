"""The DocRED metric: `scoring` computes (standard library only), `docred` is the `evaluate` module around it."""

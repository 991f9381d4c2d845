"""Table-Critic, chains on tables that a judge, a critic, a refiner and a curator mend (arXiv:2502.11799)."""

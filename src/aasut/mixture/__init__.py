"""Several fields in one Mixture of Experts, and what else could serve them."""

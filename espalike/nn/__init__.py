"""Networks: message passing, symmetric heads, links, charge equilibration."""

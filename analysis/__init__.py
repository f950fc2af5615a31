"""Records -> tables and figures; needs neither torch nor ray."""

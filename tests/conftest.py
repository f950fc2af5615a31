"""What all tests share: real data sets where they are, small made-up ones everywhere."""

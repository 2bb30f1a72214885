"""What is installed: plugins, their parameters, the wheels and versions behind them."""

"""Train, save, load and apply models. The only home of scikit-learn, XGBoost and torch."""

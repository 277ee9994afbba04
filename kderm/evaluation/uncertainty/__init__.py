"""How sure an answer is: disagreement, conformal sets, abstaining. Never imports Keras."""

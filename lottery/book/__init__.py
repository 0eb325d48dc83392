"""How chapters become pages: parameters, claims and their verdicts, figures, explorers, papermill, gates, the build."""

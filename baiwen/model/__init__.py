"""The model: dense and mixture-of-experts Qwen2/Qwen2.5, from config.json to logits."""

# SPDX-License-Identifier: MIT-0
# The alias `live` sends 5 % of its traffic to the new version, the rest to the one that it names.
aws lambda wait function-updated-v2 --function-name "$FUNCTION"
version=$(aws lambda publish-version --function-name "$FUNCTION" --query Version --output text)
aws lambda update-alias --function-name "$FUNCTION" --name live \
    --routing-config "AdditionalVersionWeights={$version=0.05}"

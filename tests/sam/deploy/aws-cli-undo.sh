# SPDX-License-Identifier: MIT-0
# All traffic of `live` goes to the version that it names; then the function itself loses layer and variable.
aws lambda update-alias --function-name "$FUNCTION" --name live --routing-config "AdditionalVersionWeights={}"
aws lambda update-function-configuration --function-name "$FUNCTION" --layers --environment "Variables={}"
